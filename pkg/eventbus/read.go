package eventbus

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
)

// Read returns the first message of a stream at or after a sequence, without
// consuming it; ErrNotFound says that there is none.
func (b *Bus) Read(ctx context.Context, stream string, from uint64) (*Delivery, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	d, err := b.read(ctx, stream, from)
	if err != nil {
		return nil, fmt.Errorf("read stream %s from %d: %w", stream, from, err)
	}
	return d, nil
}

func (b *Bus) read(ctx context.Context, stream string, from uint64) (*Delivery, error) {
	if err := b.waitUp(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	raw, err := s.GetMsg(ctx, max(from, 1), jetstream.WithGetMsgSubject(">"))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return &Delivery{
		Message: parseMessage(raw.Subject, raw.Header, raw.Data), Header: firstValues(raw.Header),
		Stream: stream, Sequence: raw.Sequence,
	}, nil
}

// WithTraceOf returns ctx inside the trace of a stored message, for whoever goes
// on where its handler gave up.
func (b *Bus) WithTraceOf(ctx context.Context, d *Delivery) context.Context {
	sc := b.spanContextOf(d.Header)
	if !sc.IsValid() {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, sc)
}
