package eventbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
)

// publishRetryWait is the wait before a message is sent again to a stream that
// nobody answers for, for example while a cluster elects a leader.
const publishRetryWait = 100 * time.Millisecond

// Publish sends a message and waits until JetStream has stored it. It waits for
// at most the configured PublishTimeout, also for a connection that is down, and
// then returns ErrUnavailable. A stream that is full gives ErrFull, a message
// above its stream's MaxMsgSize ErrTooLarge, a subject that the topology does
// not give to this service ErrNotAllowed. Publishing the same id twice within
// two minutes stores it once.
func (b *Bus) Publish(ctx context.Context, m Message) error {
	ctx, span := b.tel.tracer.Start(ctx, "send "+m.Subject,
		trace.WithSpanKind(trace.SpanKindProducer), sendAttributes(b.opts.Service, m))
	defer span.End()
	err := b.publish(ctx, m)
	b.tel.sent(ctx, span, m, err)
	if err != nil {
		return fmt.Errorf("publish %s: %w", m.Subject, err)
	}
	return nil
}

func (b *Bus) publish(ctx context.Context, m Message) error {
	if !b.opts.Topology.publishes(b.opts.Service, m.Subject) {
		return fmt.Errorf("%w: %s does not publish it", ErrNotAllowed, b.opts.Service)
	}
	stream, ok := b.opts.Topology.streamOf(m.Subject)
	if !ok {
		return fmt.Errorf("%w: no stream stores it", ErrNotAllowed)
	}
	if err := m.check(); err != nil {
		return err
	}
	msg := &nats.Msg{Subject: m.Subject, Header: m.header(), Data: m.Data}
	b.tel.propagator.Inject(ctx, headerCarrier(msg.Header))
	if size := len(m.Data) + headerSize(msg.Header); size > int(stream.MaxMsgSize) {
		return fmt.Errorf("%w: %d bytes, %s takes %d", ErrTooLarge, size, stream.Name, stream.MaxMsgSize)
	}

	bounded, cancel := context.WithTimeout(ctx, b.cfg.PublishTimeout)
	defer cancel()
	err := b.store(bounded, msg, stream.Name)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled):
		// The caller went away; that says nothing about the bus.
		return ctx.Err()
	}
	return publishError(err)
}

// store sends msg until it is stored, the stream refuses it or ctx ends.
func (b *Bus) store(ctx context.Context, msg *nats.Msg, stream string) error {
	for {
		if err := b.waitUp(ctx); err != nil {
			return err
		}
		if err := b.sound(ctx, stream); err != nil {
			b.kick()
			if !sleep(ctx, publishRetryWait) {
				return err
			}
			continue // the provisioner may be putting it right
		}
		_, err := b.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(stream), jetstream.WithRetryAttempts(0))
		switch {
		case err == nil:
			return nil
		case errors.Is(err, jetstream.ErrNoStreamResponse):
			b.forget(stream)
			b.kick() // the stream is gone; the provisioner makes it again
		case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionReconnecting):
		default:
			return err
		}
		if !sleep(ctx, publishRetryWait) {
			return err
		}
	}
}

// headerSize is what the server counts for the headers of a message.
func headerSize(h nats.Header) int {
	size := len("NATS/1.0\r\n\r\n")
	for k, values := range h {
		for _, v := range values {
			size += len(k) + len(": ") + len(v) + len("\r\n")
		}
	}
	return size
}

// spanContextOf is the trace of a stored message.
func (b *Bus) spanContextOf(h map[string]string) trace.SpanContext {
	carrier := mapCarrier(h)
	return trace.SpanContextFromContext(b.tel.propagator.Extract(context.Background(), carrier))
}
