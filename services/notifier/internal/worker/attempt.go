package worker

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/webhook"
)

// attempt makes one attempt and records what follows from it.
func (w *Worker) attempt(ctx context.Context, to webhook.Target, d store.Delivery) {
	// Log lines of the attempt belong to the trace of the push.
	traced := w.deps.Telemetry.Propagator.Extract(ctx, propagation.MapCarrier{"traceparent": d.Traceparent})
	result := w.deps.Sender.Send(traced, to, webhook.Message{ID: d.ID, Body: d.Body, Traceparent: d.Traceparent})
	if interrupted(ctx, result) {
		if err := record(traced, func(ctx context.Context) error { return w.deps.Store.Release(ctx, d) }); err != nil {
			w.log.ErrorContext(traced, "delivery not given back", "delivery", d.ID, "error", err)
		}
		return
	}
	outcome := w.cfg.Schedule.Decide(d.Step, result, w.deps.Jitter())
	w.note(traced, d, result, outcome)
	err := record(traced, func(ctx context.Context) error { return w.finish(ctx, to, d, result, outcome) })
	switch {
	case errors.Is(err, store.ErrLeaseLost):
		w.log.WarnContext(traced, "delivery was taken over", "delivery", d.ID, "subscription", d.Subscription)
	case err != nil:
		// The lease runs out and the attempt is made again: the subscriber knows the id.
		w.log.ErrorContext(traced, "attempt not recorded", "delivery", d.ID, "error", err)
	}
}

func (w *Worker) finish(ctx context.Context, to webhook.Target, d store.Delivery, r core.Result, o core.Outcome) error {
	now := w.deps.Now()
	if o.Throttle > 0 {
		w.pause(d.Subscription, now.Add(o.Throttle))
	}
	a := store.Attempt{Error: o.Error, Status: r.Status}
	switch {
	case o.Delivered:
		a.State = store.StateDelivered
	case o.GiveUp != "":
		a.State, a.GiveUpReason = store.StateFailed, o.GiveUp
	default:
		a.State, a.NextAttempt = store.StatePending, now.Add(o.Wait)
	}
	if err := w.deps.Store.Finish(ctx, d, now, a); err != nil {
		return err
	}
	if !o.Gone {
		return nil
	}
	if err := w.deps.Store.MarkGone(ctx, d.Subscription, HashURL(to.URL), now); err != nil {
		return err
	}
	return w.giveUp(ctx, d.Subscription, core.ReasonGone, time.Time{})
}

func (w *Worker) note(ctx context.Context, d store.Delivery, r core.Result, o core.Outcome) {
	attrs := []any{"delivery", d.ID, "subscription", d.Subscription, "image_digest", d.ImageDigest,
		"attempt", d.Attempts + 1, "status", r.Status}
	switch {
	case o.Delivered:
		w.metrics.countAttempt(ctx, d.Subscription, "delivered")
		w.log.InfoContext(ctx, "notification delivered", attrs...)
	case o.GiveUp != "":
		w.metrics.countAttempt(ctx, d.Subscription, "failed")
		w.metrics.countGivenUp(ctx, d.Subscription, o.GiveUp, 1)
		w.log.ErrorContext(ctx, "notification given up", append(attrs, "reason", o.GiveUp, "error", o.Error)...)
	default:
		w.metrics.countAttempt(ctx, d.Subscription, "retried")
		w.log.WarnContext(ctx, "notification failed", append(attrs, "error", o.Error, "retry_in", o.Wait)...)
	}
}
