// Package server answers the verifier's RPCs: messages to queries and stored
// verdicts to messages, nothing else.
package server
