package eventbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Change is what the Provisioner did to one stream or consumer, or found there.
type Change struct {
	Kind   string // "stream" or "consumer"
	Name   string // a consumer's is `<stream>/<durable>`
	Action string // Created, Updated, Deleted or Unknown
	Fields []string
}

// Actions of a Change.
const (
	// Created was missing.
	Created = "created"
	// Updated differed from the topology in the Fields.
	Updated = "updated"
	// Deleted is of an earlier release.
	Deleted = "deleted"
	// Unknown is not in the topology, and stays: it may be a newer release's.
	Unknown = "unknown"
)

// Apply makes all streams and consumers what the topology says, once, and returns
// what had to be done. The bus must be connected as Provisioner. What cannot be
// changed, such as a consumer that delivers to a subject, is an error: it must be
// deleted by hand, since the messages that wait in it would be lost.
func (b *Bus) Apply(ctx context.Context) ([]Change, error) {
	if b.opts.Service != Provisioner {
		return nil, fmt.Errorf("apply topology: %w: only %s may", ErrNotAllowed, Provisioner)
	}
	if err := b.waitUp(ctx); err != nil {
		return nil, fmt.Errorf("apply topology: %w: %w", ErrUnavailable, err)
	}
	b.ensuring.Lock()
	defer b.ensuring.Unlock()
	changes, err := b.apply(ctx)
	if err != nil {
		return changes, fmt.Errorf("apply topology: %w", err)
	}
	return changes, nil
}

// provisioning is one run of the Provisioner. It goes on after a failure: one stream
// must not keep the others from being made.
type provisioning struct {
	bus     *Bus
	changes []Change
	errs    []error
}

func (b *Bus) apply(ctx context.Context) ([]Change, error) {
	p := &provisioning{bus: b}
	t := b.opts.Topology
	for _, name := range t.Retired {
		p.retire(ctx, name)
	}
	for _, s := range t.Streams {
		if err := p.stream(ctx, s); err != nil {
			p.errs = append(p.errs, fmt.Errorf("stream %s: %w", s.Name, err))
		}
	}
	plain := t.streamConfigs(b.cfg.Replicas)[len(t.Streams):]
	for _, c := range plain {
		if err := p.config(ctx, c); err != nil {
			p.errs = append(p.errs, fmt.Errorf("stream %s: %w", c.Name, err))
		}
	}
	if err := p.unknown(ctx); err != nil {
		p.errs = append(p.errs, err)
	}
	return p.changes, errors.Join(p.errs...)
}

func (p *provisioning) note(ctx context.Context, c Change) {
	p.changes = append(p.changes, c)
	key := strings.Join([]string{c.Kind, c.Name, c.Action}, " ")
	switch c.Action {
	case Created, Deleted:
		p.bus.log.InfoContext(ctx, "topology changed", "kind", c.Kind, "name", c.Name, "action", c.Action)
	case Updated:
		p.bus.log.WarnContext(ctx, "topology drift repaired", "kind", c.Kind, "name", c.Name, "fields", c.Fields)
	case Unknown:
		if _, told := p.bus.told.LoadOrStore(key, true); !told {
			p.bus.log.WarnContext(ctx, "not in the topology", "kind", c.Kind, "name", c.Name)
		}
	}
}

func (p *provisioning) retire(ctx context.Context, name string) {
	key := "retired " + name
	if _, done := p.bus.told.Load(key); done {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	switch err := p.bus.js.DeleteStream(ctx, name); {
	case err == nil:
		p.note(ctx, Change{Kind: "stream", Name: name, Action: Deleted})
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		p.errs = append(p.errs, fmt.Errorf("delete stream %s: %w", name, err))
		return
	}
	p.bus.told.Store(key, true)
}

// stream makes a stream and its consumers. A stream with retention by interest
// starts with retention by limits and changes when its consumers exist: otherwise
// what somebody publishes between the two would be acknowledged and dropped at once,
// as nobody is interested yet.
func (p *provisioning) stream(ctx context.Context, s Stream) error {
	want := s.streamConfig(p.bus.cfg.Replicas)
	have, err := p.bus.haveStream(ctx, s.Name)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	first := want
	if want.Retention != jetstream.LimitsPolicy {
		first.Retention = have.Retention // of a missing stream: by limits
	}
	if err := p.config(ctx, first); err != nil {
		return err
	}
	for _, c := range s.Consumers {
		if err := p.consumer(ctx, s.Name, p.bus.cfg.consumer(c).consumerConfig()); err != nil {
			return fmt.Errorf("consumer %s: %w", c.Durable, err)
		}
	}
	if first.Retention == want.Retention {
		return nil
	}
	missing := err != nil
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if _, err = p.bus.js.UpdateStream(ctx, want); err == nil && !missing {
		p.note(ctx, Change{Kind: "stream", Name: s.Name, Action: Updated, Fields: []string{"Retention"}})
	}
	return err
}

// config makes one stream what it should be.
func (p *provisioning) config(ctx context.Context, want jetstream.StreamConfig) error {
	have, err := p.bus.haveStream(ctx, want.Name)
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	change := Change{Kind: "stream", Name: want.Name}
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		change.Action = Created
		_, err = p.bus.js.CreateStream(ctx, want)
	case err != nil:
		return err
	default:
		if change.Fields = streamDrift(have, want); len(change.Fields) == 0 {
			return nil
		}
		change.Action = Updated
		_, err = p.bus.js.UpdateStream(ctx, want)
	}
	if err != nil {
		return fmt.Errorf("%w %v", err, change.Fields)
	}
	p.note(ctx, change)
	return nil
}

func (p *provisioning) consumer(ctx context.Context, stream string, want jetstream.ConsumerConfig) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	change := Change{Kind: "consumer", Name: stream + "/" + want.Durable}
	have, err := p.bus.js.Consumer(ctx, stream, want.Durable)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		change.Action = Created
		_, err = p.bus.js.CreateConsumer(ctx, stream, want)
	case err != nil:
		return err
	default:
		if change.Fields = consumerDrift(have.CachedInfo().Config, want); len(change.Fields) == 0 {
			return nil
		}
		change.Action = Updated
		_, err = p.bus.js.UpdateConsumer(ctx, stream, want)
	}
	if err != nil {
		return fmt.Errorf("%w %v", err, change.Fields)
	}
	p.note(ctx, change)
	return nil
}

// unknown notes streams and consumers that the topology does not have.
func (p *provisioning) unknown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	known := map[string][]string{} // stream → durables
	for _, c := range p.bus.opts.Topology.streamConfigs(1) {
		known[c.Name] = nil
	}
	for _, s := range p.bus.opts.Topology.Streams {
		for _, c := range s.Consumers {
			known[s.Name] = append(known[s.Name], c.Durable)
		}
	}
	streams := p.bus.js.StreamNames(ctx)
	for name := range streams.Name() {
		if _, ok := known[name]; !ok {
			p.note(ctx, Change{Kind: "stream", Name: name, Action: Unknown})
		}
	}
	if err := streams.Err(); err != nil {
		return fmt.Errorf("list streams: %w", err)
	}
	for _, s := range p.bus.opts.Topology.Streams {
		stream, err := p.bus.js.Stream(ctx, s.Name)
		if err != nil {
			continue // already reported
		}
		consumers := stream.ConsumerNames(ctx)
		for name := range consumers.Name() {
			if !slices.Contains(known[s.Name], name) {
				p.note(ctx, Change{Kind: "consumer", Name: s.Name + "/" + name, Action: Unknown})
			}
		}
		if err := consumers.Err(); err != nil {
			return fmt.Errorf("list consumers of %s: %w", s.Name, err)
		}
	}
	return nil
}
