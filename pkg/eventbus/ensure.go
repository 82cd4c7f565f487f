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

// Ensure waits until every stream and consumer that the service uses exists and is
// what the topology says. Called by the Provisioner, it makes them. It retries until
// ctx ends; then it returns the last problem. From the first call on the bus does
// the same periodically and after every reconnect.
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
	if b.opts.Service == Provisioner {
		_, err := b.apply(ctx)
		return err
	}
	return b.check(ctx)
}

// check compares what the service uses with the topology. It goes on after a
// problem, so that all of them are reported.
func (b *Bus) check(ctx context.Context) error {
	t, service := b.opts.Topology, b.opts.Service
	var errs []error
	for _, s := range t.Streams {
		if !t.uses(service, s) {
			continue
		}
		if err := b.checkStream(ctx, s.streamConfig(b.cfg.Replicas)); err != nil {
			errs = append(errs, fmt.Errorf("stream %s: %w", s.Name, err))
			continue
		}
		for _, c := range s.Consumers {
			if c.Service != service {
				continue
			}
			if _, err := b.boundConsumer(ctx, s.Name, c); err != nil {
				errs = append(errs, fmt.Errorf("consumer %s of stream %s: %w", c.Durable, s.Name, err))
			}
		}
	}
	for _, l := range t.Locks {
		if l.Owner == service {
			if err := b.checkStream(ctx, l.streamConfig(b.cfg.Replicas)); err != nil {
				errs = append(errs, fmt.Errorf("locks %s: %w", l.Name, err))
			}
		}
	}
	for _, o := range t.Objects {
		if o.Owner == service {
			if err := b.checkStream(ctx, o.streamConfig(b.cfg.Replicas)); err != nil {
				errs = append(errs, fmt.Errorf("objects %s: %w", o.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (b *Bus) checkStream(ctx context.Context, want jetstream.StreamConfig) error {
	b.mu.Lock()
	connection := b.up
	b.mu.Unlock()
	have, err := b.haveStream(ctx, want.Name)
	if err == nil {
		err = b.opts.Topology.checkStream(have, want)
	}
	if err != nil {
		b.forget(want.Name)
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isUp && b.up == connection {
		if b.compared == nil {
			b.compared = map[string]bool{}
		}
		b.compared[want.Name] = true
	}
	return nil
}

// forget has a stream compared again before its next use.
func (b *Bus) forget(stream string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.compared, stream)
}

// sound returns nil if a stream may be used: it was compared with the topology since
// the connection was made, and nothing that the service uses has drifted. A stream
// that was not compared yet is compared now.
func (b *Bus) sound(ctx context.Context, stream string) error {
	b.mu.Lock()
	compared, err := b.compared[stream], b.ensureErr
	b.mu.Unlock()
	if errors.Is(err, ErrDrift) {
		return err
	}
	if compared {
		return nil
	}
	for _, want := range b.opts.Topology.streamConfigs(b.cfg.Replicas) {
		if want.Name == stream {
			return b.checkStream(ctx, want)
		}
	}
	return fmt.Errorf("stream %s: %w", stream, ErrNotAllowed)
}

// streamConfig is the stream as the server should have it.
func (s Stream) streamConfig(replicas int) jetstream.StreamConfig {
	retention := jetstream.LimitsPolicy
	if s.Retention == Interest {
		retention = jetstream.InterestPolicy
	}
	return jetstream.StreamConfig{
		Name: s.Name, Subjects: slices.Clone(s.Subjects),
		Retention: retention, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage,
		MaxBytes: s.MaxBytes, MaxAge: s.MaxAge, MaxMsgSize: s.MaxMsgSize,
		Replicas: replicas, Duplicates: dedupeWindow,
	}
}

// streamConfigs are all streams of the topology.
func (t Topology) streamConfigs(replicas int) []jetstream.StreamConfig {
	var out []jetstream.StreamConfig
	for _, s := range t.Streams {
		out = append(out, s.streamConfig(replicas))
	}
	for _, l := range t.Locks {
		out = append(out, l.streamConfig(replicas))
	}
	for _, o := range t.Objects {
		out = append(out, o.streamConfig(replicas))
	}
	return out
}

// consumerConfig sets no limit of deliveries on the server: there a message that
// reached it would be skipped without a word, even if its dead letter could not
// be stored. The bus counts the attempts. Nor does it limit the messages that are not
// acknowledged: those that wait for their next attempt count too, so that a registry
// that fails would stop all others. Each consumption bounds what it takes, and the
// stream's size bounds the others.
func (c Consumer) consumerConfig() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: c.Durable, Description: "consumed by " + c.Service,
		DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: c.AckWait, MaxDeliver: -1, MaxAckPending: -1,
		FilterSubjects: slices.Clone(c.Subjects),
	}
}

func (b *Bus) haveStream(ctx context.Context, name string) (jetstream.StreamConfig, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	s, err := b.js.Stream(ctx, name)
	if err != nil {
		return jetstream.StreamConfig{}, err
	}
	return s.CachedInfo().Config, nil
}

// boundConsumer finds a consumer, which must be as the topology says.
func (b *Bus) boundConsumer(ctx context.Context, stream string, c Consumer) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	k, err := b.js.Consumer(ctx, stream, c.Durable)
	if err != nil {
		return nil, err
	}
	return k, checkConsumer(k.CachedInfo().Config, c.consumerConfig())
}

// kick makes the bus look after its streams now.
func (b *Bus) kick() {
	select {
	case b.kicks <- struct{}{}:
	default:
	}
}

func (b *Bus) watchStreams(ctx context.Context) {
	interval := recheckInterval
	if b.opts.Service == Provisioner {
		interval = provisionInterval
	}
	recheck := time.NewTicker(interval)
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
