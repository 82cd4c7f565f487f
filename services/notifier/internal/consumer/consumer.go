// Package consumer turns verdicts into deliveries: one for each subscription that a
// verdict matches, in one transaction, before the event is acknowledged.
package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/webhook"
)

// ReasonInvalid is the reason of dead letters of events that cannot be.
const ReasonInvalid = "INVALID_EVENT"

// Subscription is who is told what.
type Subscription struct {
	Name   string
	Filter core.Filter
}

// Consumer handles VerdictReached events.
type Consumer struct {
	store         store.Store
	subscriptions []Subscription
	history       History
	source        string
	wake          func()
	log           *slog.Logger
	now           func() time.Time
}

// New returns a consumer that confirms events with the history of the verifier, whose
// SPIFFE ID is source, and calls wake after it stored deliveries.
func New(s store.Store, subscriptions []Subscription, history History, source string, wake func(), t *obs.Telemetry, now func() time.Time) *Consumer {
	return &Consumer{store: s, subscriptions: subscriptions, history: history, source: source, wake: wake, log: t.Logger, now: now}
}

// Handle stores the deliveries of one verdict, if the verifier confirms it. The same event a second time stores
// nothing. An event that was replayed out of a dead letter makes its failed
// deliveries due again: a replay has another message id than the event inside.
func (c *Consumer) Handle(ctx context.Context, e *eventv1.VerdictReachedEvent, d *eventbus.Delivery) error {
	if _, err := parse(e); err != nil {
		return eventbus.Permanent(ReasonInvalid, err)
	}
	e, err := c.confirm(ctx, e)
	if err != nil {
		return err
	}
	verdict, err := parse(e)
	if err != nil {
		return eventbus.Permanent(ReasonInvalid, err)
	}
	deliveries, err := c.deliveries(ctx, e, d, verdict)
	if err != nil {
		return err
	}
	added, err := c.store.Add(ctx, deliveries)
	if err != nil {
		return err
	}
	replayed := 0
	if d.ID != e.GetMeta().GetEventId() {
		if replayed, err = c.store.Replay(ctx, e.GetMeta().GetEventId(), c.now()); err != nil {
			return err
		}
	}
	if added+replayed > 0 {
		c.log.InfoContext(ctx, "notifications queued", "image_digest", verdict.Digest, "state", verdict.State,
			"deliveries", added, "replayed", replayed)
		c.wake()
	}
	return nil
}

func (c *Consumer) deliveries(ctx context.Context, e *eventv1.VerdictReachedEvent, d *eventbus.Delivery, v webhook.Verdict) ([]store.Delivery, error) {
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	traceparent := carrier.Get("traceparent")
	now := c.now()
	var out []store.Delivery
	for _, s := range c.subscriptions {
		if !s.Filter.Match(v.Image, v.State) {
			continue
		}
		// Derived, so that a crash between two attempts to store it changes nothing.
		id := "dlv_" + events.ID(e.GetMeta().GetEventId(), s.Name)
		body, err := webhook.Event{
			ID: id, Source: e.GetMeta().GetSource(), Time: e.GetMeta().GetEventTime().AsTime(),
			Traceparent: traceparent, Verdict: v,
		}.Encode()
		if err != nil {
			return nil, eventbus.Permanent(ReasonInvalid, err)
		}
		out = append(out, store.Delivery{
			ID: id, EventID: e.GetMeta().GetEventId(), Subscription: s.Name, ImageDigest: v.Digest,
			TraceID: v.TraceID, Traceparent: traceparent, Body: body,
			Event: payload, EventStream: d.Stream, EventSequence: d.Sequence,
			State: store.StatePending, NextAttempt: now, CreateTime: now,
		})
	}
	return out, nil
}

// parse returns what the event says to subscribers.
func parse(e *eventv1.VerdictReachedEvent) (webhook.Verdict, error) {
	image := e.GetImage()
	ref := imageref.Ref{
		Registry: image.GetRegistry(), Repository: image.GetRepository(),
		Tag: image.GetTag(), Digest: image.GetDigest(),
	}
	if err := ref.Validate(); err != nil {
		return webhook.Verdict{}, fmt.Errorf("image: %w", err)
	}
	if ref.Digest == "" {
		return webhook.Verdict{}, errors.New("image: the digest is missing")
	}
	state, ok := states[e.GetState()]
	if !ok || state == "" {
		return webhook.Verdict{}, fmt.Errorf("state: %v is none that is told", e.GetState())
	}
	previous, ok := states[e.GetPreviousState()]
	if !ok {
		return webhook.Verdict{}, fmt.Errorf("previous_state: %v is not known", e.GetPreviousState())
	}
	return webhook.Verdict{
		Image: ref.Name(), Tag: ref.Tag, Digest: ref.Digest,
		State: state, PreviousState: previous, Reasons: e.GetReasons(),
		VerdictDigest: e.GetVerdictDigest(), TraceID: e.GetMeta().GetTraceId(),
	}, nil
}

var states = map[eventv1.VerdictReachedEvent_State]string{
	eventv1.VerdictReachedEvent_STATE_UNSPECIFIED: "",
	eventv1.VerdictReachedEvent_STATE_PASS:        core.StatePass,
	eventv1.VerdictReachedEvent_STATE_FAIL:        core.StateFail,
	eventv1.VerdictReachedEvent_STATE_UNKNOWN:     core.StateUnknown,
}
