package eventbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// apiTimeout bounds one call of the JetStream API.
const apiTimeout = 5 * time.Second

// Ensure creates or updates the streams that the service owns, with all their
// consumers, then waits until every other stream and consumer that it uses
// exists too. It retries until ctx ends; then it returns the last problem. From
// the first call on the bus does the same after every reconnect and whenever a
// stream turns out to be missing.
func (b *Bus) Ensure(ctx context.Context) error {
	b.mu.Lock()
	if !b.wanted {
		b.wanted = true
		b.ensureErr = errors.New("streams are not there yet")
	}
	b.mu.Unlock()
	return b.ensure(ctx)
}

func (b *Bus) ensure(ctx context.Context) error {
	logged := ""
	for wait := minReconnectWait; ; wait = min(2*wait, maxReconnectWait) {
		err := b.waitUp(ctx)
		if err == nil {
			err = b.ensureOnce(ctx)
		}
		b.mu.Lock()
		b.ensureErr = err
		b.mu.Unlock()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil && err.Error() != logged {
			logged = err.Error()
			b.log.InfoContext(ctx, "streams are not ready", "error", err)
		}
		if !sleep(ctx, wait) {
			return fmt.Errorf("event bus: %w: %w", ErrUnavailable, err)
		}
	}
}

func (b *Bus) ensureOnce(ctx context.Context) error {
	b.ensuring.Lock()
	defer b.ensuring.Unlock()
	// Own streams first: two services that wait for each other's both go on.
	for _, s := range b.opts.Topology.Streams {
		if s.Owner != b.opts.Service {
			continue
		}
		if err := b.ensureStream(ctx, s); err != nil {
			return fmt.Errorf("stream %s: %w", s.Name, err)
		}
	}
	for _, l := range b.opts.Topology.Locks {
		if l.Owner != b.opts.Service {
			continue
		}
		if err := b.ensureLocks(ctx, l); err != nil {
			return fmt.Errorf("locks %s: %w", l.Name, err)
		}
	}
	for _, o := range b.opts.Topology.Objects {
		if o.Owner != b.opts.Service {
			continue
		}
		if err := b.ensureObjects(ctx, o); err != nil {
			return fmt.Errorf("objects %s: %w", o.Name, err)
		}
	}
	for _, s := range b.opts.Topology.Streams {
		if s.Owner == b.opts.Service {
			continue
		}
		if b.opts.Topology.publishes(b.opts.Service, s.Subjects...) {
			if _, err := b.streamConfig(ctx, s.Name); err != nil {
				return fmt.Errorf("stream %s of %s: %w", s.Name, s.Owner, err)
			}
		}
		for _, c := range s.Consumers {
			if c.Service != b.opts.Service {
				continue
			}
			if _, err := b.boundConsumer(ctx, s.Name, c.Durable); err != nil {
				return fmt.Errorf("consumer %s of stream %s of %s: %w", c.Durable, s.Name, s.Owner, err)
			}
		}
	}
	return nil
}

// ensureStream creates or updates a stream and its consumers. A stream with
// retention by interest starts with retention by limits and changes when its
// consumers exist: otherwise what somebody publishes between the two would be
// acknowledged and dropped at once, as nobody is interested yet.
func (b *Bus) ensureStream(ctx context.Context, s Stream) error {
	want := b.wantedStream(s)
	first := want
	have, err := b.streamConfig(ctx, s.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		first.Retention = jetstream.LimitsPolicy
		if err := b.createStream(ctx, first); err != nil {
			return err
		}
		b.log.InfoContext(ctx, "stream created", "stream", s.Name)
	case err != nil:
		return err
	default:
		first.Retention = have.Retention
		if want.Retention == jetstream.LimitsPolicy {
			first.Retention = want.Retention
		}
		if err := b.updateStream(ctx, first); err != nil {
			return err
		}
	}
	for _, c := range s.Consumers {
		if err := b.ensureConsumer(ctx, s.Name, b.cfg.consumer(c)); err != nil {
			return fmt.Errorf("consumer %s: %w", c.Durable, err)
		}
	}
	if first.Retention != want.Retention {
		return b.updateStream(ctx, want)
	}
	return nil
}

func (b *Bus) wantedStream(s Stream) jetstream.StreamConfig {
	retention := jetstream.LimitsPolicy
	if s.Retention == Interest {
		retention = jetstream.InterestPolicy
	}
	return jetstream.StreamConfig{
		Name: s.Name, Description: "owned by " + s.Owner, Subjects: slices.Clone(s.Subjects),
		Retention: retention, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage,
		MaxBytes: s.MaxBytes, MaxAge: s.MaxAge, MaxMsgSize: s.MaxMsgSize,
		Replicas: b.cfg.Replicas, Duplicates: dedupeWindow,
	}
}

func (b *Bus) createStream(ctx context.Context, c jetstream.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	_, err := b.js.CreateStream(ctx, c)
	return err
}

func (b *Bus) updateStream(ctx context.Context, c jetstream.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	_, err := b.js.UpdateStream(ctx, c)
	return err
}

func (b *Bus) streamConfig(ctx context.Context, name string) (jetstream.StreamConfig, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	s, err := b.js.Stream(ctx, name)
	if err != nil {
		return jetstream.StreamConfig{}, err
	}
	return s.CachedInfo().Config, nil
}

// ensureConsumer sets no limit of deliveries on the server: there a message that
// reached it would be skipped without a word, even if its dead letter could not
// be stored. The bus counts the attempts.
func (b *Bus) ensureConsumer(ctx context.Context, stream string, c Consumer) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	_, err := b.js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable: c.Durable, Description: "consumed by " + c.Service,
		DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: c.AckWait, MaxDeliver: -1, MaxAckPending: c.MaxAckPending,
		FilterSubjects: slices.Clone(c.Subjects),
	})
	return err
}

func (b *Bus) boundConsumer(ctx context.Context, stream, durable string) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	return b.js.Consumer(ctx, stream, durable)
}

// kick makes the bus look after its streams now.
func (b *Bus) kick() {
	select {
	case b.kicks <- struct{}{}:
	default:
	}
}

func (b *Bus) watchStreams(ctx context.Context) {
	recheck := time.NewTicker(recheckInterval)
	defer recheck.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.done:
			return
		case <-b.kicks:
		case <-recheck.C:
		}
		b.mu.Lock()
		wanted := b.wanted
		b.mu.Unlock()
		if wanted {
			// The error says that the bus is closing, nothing more.
			_ = b.ensure(ctx)
		}
	}
}
