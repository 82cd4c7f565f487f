// Package consumer turns verdicts into deliveries: one for each subscription that a
// verdict matches, in one transaction, before the event is acknowledged.
package consumer

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/wire"
)

// ReasonInvalid is the reason of dead letters of invalid events.
const ReasonInvalid = "INVALID_EVENT"

// Consumer handles VerdictReached events.
type Consumer struct {
	store         store.Store
	subscriptions []core.Subscription
	history       History
	source        string
	wake          func()
	log           *slog.Logger
	now           func() time.Time
}

// New returns a consumer that confirms events with the history of the verifier, whose
// SPIFFE ID is source, and calls wake after it stored deliveries.
func New(s store.Store, subscriptions []core.Subscription, history History, source string, wake func(), t *obs.Telemetry, now func() time.Time) *Consumer {
	return &Consumer{store: s, subscriptions: subscriptions, history: history, source: source, wake: wake, log: t.Logger, now: now}
}

// Handle stores the deliveries of one verdict, if the verifier confirms it. The same event
// a second time stores nothing. An event replayed from a dead letter makes its failed
// deliveries due again: a replay has another message id than the event inside.
func (c *Consumer) Handle(ctx context.Context, e *eventv1.VerdictReachedEvent, d *eventbus.Delivery) error {
	if _, err := wire.Notification(e); err != nil {
		return eventbus.Permanent(ReasonInvalid, err)
	}
	e, err := c.confirm(ctx, e)
	if err != nil {
		return err
	}
	n, err := wire.Notification(e)
	if err != nil {
		return eventbus.Permanent(ReasonInvalid, err)
	}
	deliveries, err := c.deliveries(ctx, e, d, n)
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
		c.log.InfoContext(ctx, "notifications queued", "image_digest", n.Digest, "state", n.State,
			"deliveries", added, "replayed", replayed)
		c.wake()
	}
	return nil
}

func (c *Consumer) deliveries(ctx context.Context, e *eventv1.VerdictReachedEvent, d *eventbus.Delivery, n core.Notification) ([]store.Delivery, error) {
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	now := c.now()
	var out []store.Delivery
	for _, s := range c.subscriptions {
		if !s.Filter.Match(n.Image, n.State) {
			continue
		}
		out = append(out, store.Delivery{
			// Derived, so that a crash between two attempts to store it changes nothing.
			ID:      "dlv_" + events.ID(e.GetMeta().GetEventId(), s.Name),
			EventID: e.GetMeta().GetEventId(), Subscription: s.Name, ImageDigest: n.Digest,
			TraceID: n.TraceID, Traceparent: carrier.Get("traceparent"),
			Event: payload, EventStream: d.Stream, EventSequence: d.Sequence,
			State: store.StatePending, NextAttempt: now, CreateTime: now,
		})
	}
	return out, nil
}
