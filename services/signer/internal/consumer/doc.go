// Package consumer handles the events that make the signer act. It fetches what
// lies behind an event from the service that owns it, checks that it is what the
// event promised, and has core build and evidence attach the claims. Handlers may
// be called any number of times for one event.
package consumer
