// Package eventbus carries facts between services over NATS JetStream. It knows
// streams, consumers and bytes, and no protobuf message; pkg/events puts the
// catalogue and the messages on top.
//
// What it promises:
//
//   - Publish returns nil only after JetStream stored the message, and gives up
//     within a bounded time.
//   - A message that a handler did not finish comes back: after its AckWait if
//     the process died, after the consumer's backoff if the handler failed.
//   - A message that cannot be handled ends in a dead letter, never in nothing:
//     it is taken off its stream only after the dead letter was stored.
//   - The W3C trace context travels in the headers; a handler runs in a child
//     span of the sender's.
//   - The connection is mutual TLS and is re-established forever; streams that
//     vanished are created again by their owner.
package eventbus
