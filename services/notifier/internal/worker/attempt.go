package worker

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/wire"
)

// attempt makes one attempt and records what follows from it.
func (w *Worker) attempt(ctx context.Context, to *core.Subscription, d store.Delivery) {
	// The attempt is in the trace of the push, whatever process stored the delivery.
	ctx = w.deps.Telemetry.Propagator.Extract(ctx, propagation.MapCarrier{"traceparent": d.Traceparent})
	result := deliver(ctx, to.Sink, d)
	if result.Outcome == core.Canceled && ctx.Err() != nil {
		if err := record(ctx, func(ctx context.Context) error { return w.deps.Store.Release(ctx, d) }); err != nil {
			w.log.ErrorContext(ctx, "delivery not released", "delivery", d.ID, "error", err)
		}
		return
	}
	decision := w.cfg.Schedule.Decide(d.Step, result, w.deps.Jitter())
	w.note(ctx, d, result, decision)
	err := record(ctx, func(ctx context.Context) error { return w.finish(ctx, to, d, result, decision) })
	switch {
	case errors.Is(err, store.ErrLeaseLost):
		w.log.WarnContext(ctx, "delivery taken over by another worker", "delivery", d.ID, "subscription", d.Subscription)
	case err != nil:
		// The lease runs out and the attempt is made again: the subscriber knows the id.
		w.log.ErrorContext(ctx, "attempt not recorded", "delivery", d.ID, "error", err)
	}
}

// deliver renders the stored event anew at each attempt.
func deliver(ctx context.Context, sink core.Sink, d store.Delivery) core.Result {
	n, err := wire.Decode(d.Event)
	if err != nil {
		return core.Result{Outcome: core.Permanent, Detail: err.Error()}
	}
	n.ID, n.Traceparent = d.ID, d.Traceparent
	message, err := sink.Render(n)
	if err != nil {
		return core.Result{Outcome: core.Permanent, Detail: err.Error()}
	}
	return sink.Deliver(ctx, n, message)
}

func (w *Worker) finish(ctx context.Context, to *core.Subscription, d store.Delivery, r core.Result, decision core.Decision) error {
	now := w.deps.Now()
	if decision.Throttle > 0 {
		w.pause(d.Subscription, now.Add(decision.Throttle))
	}
	a := store.Attempt{Error: r.Detail, Status: r.Code}
	switch {
	case decision.Delivered:
		a.State = store.StateDelivered
	case decision.GiveUp != "":
		a.State, a.GiveUpReason = store.StateFailed, decision.GiveUp
	default:
		a.State, a.NextAttempt = store.StatePending, now.Add(decision.Wait)
	}
	if err := w.deps.Store.Finish(ctx, d, now, a); err != nil {
		return err
	}
	if decision.GiveUp != core.ReasonGone {
		return nil
	}
	if err := w.deps.Store.MarkGone(ctx, d.Subscription, to.AddressHash, now); err != nil {
		return err
	}
	return w.giveUp(ctx, d.Subscription, core.ReasonGone, time.Time{})
}

func (w *Worker) note(ctx context.Context, d store.Delivery, r core.Result, decision core.Decision) {
	attrs := []any{"delivery", d.ID, "subscription", d.Subscription, "image_digest", d.ImageDigest,
		"attempt", d.Attempts + 1, "status", r.Code}
	switch {
	case decision.Delivered:
		w.metrics.countAttempt(ctx, d.Subscription, "delivered")
		w.log.InfoContext(ctx, "notification delivered", attrs...)
	case decision.GiveUp != "":
		w.metrics.countAttempt(ctx, d.Subscription, "failed")
		w.metrics.countGivenUp(ctx, d.Subscription, decision.GiveUp, 1)
		w.log.ErrorContext(ctx, "notification given up", append(attrs, "reason", decision.GiveUp, "error", r.Detail)...)
	default:
		w.metrics.countAttempt(ctx, d.Subscription, "retried")
		w.log.WarnContext(ctx, "notification failed", append(attrs, "error", r.Detail, "retry_in", decision.Wait)...)
	}
}
