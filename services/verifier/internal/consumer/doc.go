// Package consumer handles the events that the verifier listens to. Every
// handler may be run again for the same event: it then does nothing new.
package consumer
