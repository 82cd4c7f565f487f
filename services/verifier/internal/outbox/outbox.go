// Package outbox publishes the changes of verdicts, and who changed the rules.
//
// A change is written in the transaction of its verdict and published after the
// commit, or at the next start if the process died in between: nothing is lost.
// A change that was published and not yet taken out is published again under the
// same event id, which the stream and every consumer recognise.
package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/wake"
)

const (
	batch = 100
	// pollEvery finds changes that another replica left behind.
	pollEvery  = 5 * time.Second
	retryFirst = 250 * time.Millisecond
	retryLast  = 10 * time.Second
)

// Publisher stores an event on the bus under an id.
type Publisher func(ctx context.Context, id string, e proto.Message) error

// Drain publishes what waits in the outbox.
type Drain struct {
	Store      store.Store
	Publish    Publisher
	Propagator propagation.TextMapPropagator
	Hub        *wake.Hub
	Log        *slog.Logger
}

// Run publishes until ctx ends.
func (d *Drain) Run(ctx context.Context) error {
	failures := 0
	for {
		changed := d.Hub.Changed()
		wait := pollEvery
		if err := errors.Join(d.drain(ctx), d.drainAudits(ctx)); ctx.Err() == nil && err != nil {
			wait = min(retryFirst<<min(failures, 10), retryLast)
			failures++
			changed = nil
			d.Log.WarnContext(ctx, "change not published", "error", err, "retry_in", wait)
		} else {
			failures = 0
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

func (d *Drain) drain(ctx context.Context) error {
	for {
		entries, err := d.Store.Outbox(ctx, batch)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := d.publish(ctx, e); err != nil {
				return fmt.Errorf("publish verdict %d: %w", e.Sequence, err)
			}
			if err := d.Store.Published(ctx, e.Sequence); err != nil {
				return err
			}
		}
		if len(entries) < batch {
			return nil
		}
	}
}

func (d *Drain) publish(ctx context.Context, e store.OutboxEntry) error {
	ev, err := Event(e.Record)
	if err != nil {
		// What subscribers act on is in the row itself; later changes must not wait for
		// one that nobody can read.
		d.Log.ErrorContext(ctx, "recorded verdict cannot be read; its change is published without reasons", "sequence", e.Sequence, "error", err)
	}
	return d.Publish(d.trace(ctx, e.Headers), events.ID(e.Digest, strconv.FormatInt(e.Sequence, 10)), ev)
}

// trace returns the context of the trace that a change was made in; of no trace if its
// headers cannot be read.
func (d *Drain) trace(ctx context.Context, headers string) context.Context {
	var carrier propagation.MapCarrier
	if err := json.Unmarshal([]byte(headers), &carrier); err != nil {
		d.Log.WarnContext(ctx, "trace context of a change cannot be read", "error", err)
		return ctx
	}
	return d.Propagator.Extract(ctx, carrier)
}

// Event makes the event of a stored change. With an error, which is about the recorded
// verdict, it is made of what is kept beside it.
func Event(r store.Record) (*eventv1.VerdictReachedEvent, error) {
	ev := &eventv1.VerdictReachedEvent{
		Meta:          &eventv1.EventMeta{EventTime: timestamppb.New(r.CreateTime)},
		Image:         verdictpb.Image(r.Image),
		VerdictDigest: r.Digest,
		State:         eventv1.VerdictReachedEvent_State(r.State),
		PreviousState: eventv1.VerdictReachedEvent_State(r.PreviousState),
		Sequence:      r.Sequence,
	}
	v, err := verdictpb.Decode(r.Body, r.Sequence, r.Digest, r.TraceID)
	if err != nil {
		return ev, err
	}
	ev.Image = v.GetImage()
	for _, reason := range v.GetReasons() {
		ev.Reasons = append(ev.Reasons, core.Truncate(reason.GetCode()+": "+reason.GetMessage()))
	}
	for _, p := range v.GetPlatforms() {
		ev.PlatformDigests = append(ev.PlatformDigests, p.GetDigest())
	}
	return ev, nil
}
