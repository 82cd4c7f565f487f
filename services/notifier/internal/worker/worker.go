// Package worker sends deliveries when they are due. Any number of workers share a
// store: each leases what it sends, and what a killed worker held is due again when
// its lease runs out.
package worker

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/store"
)

// Config bounds and times the work. Every field must be set.
type Config struct {
	// Schedule holds the waits before the attempts.
	Schedule core.Schedule
	// Workers is the largest number of attempts at once, PerSubscription that to one
	// subscriber, so that a slow one does not hold up the others.
	Workers, PerSubscription int
	// Lease is how long an attempt may take before another worker takes it over.
	Lease time.Duration
	// Poll is how often the store is asked for what became due.
	Poll time.Duration
	// Drain is how long attempts may go on when the worker stops.
	Drain time.Duration
	// Retention is how long deliveries are kept after they ended.
	Retention time.Duration
	// OrphanAge is how long deliveries of a subscription that the configuration does
	// not have any more wait for it to come back.
	OrphanAge time.Duration
}

// DeadLetters takes deliveries that are given up.
type DeadLetters interface {
	Publish(ctx context.Context, d store.Delivery) error
}

// Deps is what a worker works with.
type Deps struct {
	Store       store.Store
	DeadLetters DeadLetters
	// Subscriptions are those of the configuration.
	Subscriptions []core.Subscription
	Telemetry     *obs.Telemetry
	Now           func() time.Time
	// Jitter returns a random number in [0, 1).
	Jitter func() float64
}

const (
	recordTimeout   = 5 * time.Second
	purgeInterval   = time.Hour
	deadLetterBatch = 50
)

// Worker sends deliveries.
type Worker struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	wake    chan struct{}

	subscriptions map[string]*core.Subscription

	mu       sync.Mutex
	inFlight map[string]int
	total    int
	paused   map[string]time.Time

	attempts  sync.WaitGroup
	nextPurge time.Time
	turn      int
}

// New makes a worker ready.
func New(cfg Config, d Deps) (*Worker, error) {
	m, err := newMetrics(d.Telemetry.Meter())
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	subscriptions := make(map[string]*core.Subscription, len(d.Subscriptions))
	for i := range d.Subscriptions {
		subscriptions[d.Subscriptions[i].Name] = &d.Subscriptions[i]
	}
	return &Worker{
		cfg: cfg, deps: d, log: d.Telemetry.Logger, metrics: m,
		wake: make(chan struct{}, 1), subscriptions: subscriptions,
		inFlight: map[string]int{}, paused: map[string]time.Time{},
	}, nil
}

// Wake makes the worker look for due deliveries now.
func (w *Worker) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends. Attempts under way then have cfg.Drain to end; those that
// do not are given back.
func (w *Worker) Run(ctx context.Context) error {
	sendCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	ticker := time.NewTicker(w.cfg.Poll)
	defer ticker.Stop()
	for {
		w.round(ctx, sendCtx)
		select {
		case <-ctx.Done():
			timer := time.AfterFunc(w.cfg.Drain, cancel)
			defer timer.Stop()
			w.attempts.Wait()
			return nil
		case <-ticker.C:
		case <-w.wake:
		}
	}
}

// round starts what is due and publishes pending dead letters. A store that is down is logged
// and asked again in the next round.
func (w *Worker) round(ctx, sendCtx context.Context) {
	for _, step := range []func() error{
		func() error { return w.start(ctx, sendCtx) },
		func() error { return w.publishDeadLetters(ctx) },
		func() error { return w.purge(ctx) },
	} {
		if err := step(); err != nil && ctx.Err() == nil {
			w.log.ErrorContext(ctx, "delivery round failed", "error", err)
		}
	}
}

// start claims due deliveries and starts an attempt for each.
func (w *Worker) start(ctx, sendCtx context.Context) error {
	due, err := w.deps.Store.DueSubscriptions(ctx, w.deps.Now())
	if err != nil || len(due) == 0 {
		return err
	}
	gone, err := w.deps.Store.Gone(ctx)
	if err != nil {
		return err
	}
	// Another subscription is first in each round, so that none always gets the rest.
	w.turn++
	for i := range due {
		if err := w.startOf(ctx, sendCtx, due[(i+w.turn)%len(due)], gone); err != nil {
			return err
		}
	}
	return nil
}

func (w *Worker) startOf(ctx, sendCtx context.Context, subscription string, gone map[string]string) error {
	now := w.deps.Now()
	to, known := w.subscriptions[subscription]
	switch {
	case !known:
		return w.giveUp(ctx, subscription, core.ReasonRemoved, now.Add(-w.cfg.OrphanAge))
	case gone[subscription] == to.AddressHash:
		return w.giveUp(ctx, subscription, core.ReasonGone, time.Time{})
	}
	free := w.free(subscription, now)
	if free == 0 {
		return nil
	}
	deliveries, err := w.deps.Store.Claim(ctx, subscription, now, w.cfg.Lease, rand.Text(), free)
	if err != nil {
		return err
	}
	for _, d := range deliveries {
		w.begin(subscription)
		w.attempts.Go(func() {
			defer w.end(subscription)
			w.attempt(sendCtx, to, d)
		})
	}
	return nil
}

func (w *Worker) giveUp(ctx context.Context, subscription, reason string, dueBefore time.Time) error {
	n, err := w.deps.Store.GiveUp(ctx, subscription, reason, dueBefore, w.deps.Now())
	if n > 0 {
		w.metrics.countGivenUp(ctx, subscription, reason, n)
		w.log.WarnContext(ctx, "deliveries given up", "subscription", subscription, "reason", reason, "deliveries", n)
	}
	return err
}

// free returns how many attempts to subscription may start now.
func (w *Worker) free(subscription string, now time.Time) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if until, ok := w.paused[subscription]; ok {
		if now.Before(until) {
			return 0
		}
		delete(w.paused, subscription)
	}
	return max(0, min(w.cfg.PerSubscription-w.inFlight[subscription], w.cfg.Workers-w.total))
}

func (w *Worker) begin(subscription string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inFlight[subscription]++
	w.total++
}

func (w *Worker) end(subscription string) {
	w.mu.Lock()
	w.inFlight[subscription]--
	w.total--
	w.mu.Unlock()
	w.Wake()
}

func (w *Worker) pause(subscription string, until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused[subscription] = until
}

// purge deletes old deliveries once an hour.
func (w *Worker) purge(ctx context.Context) error {
	now := w.deps.Now()
	if now.Before(w.nextPurge) {
		return nil
	}
	w.nextPurge = now.Add(purgeInterval)
	n, err := w.deps.Store.Purge(ctx, now.Add(-w.cfg.Retention))
	if n > 0 {
		w.log.InfoContext(ctx, "old deliveries purged", "deliveries", n)
	}
	return err
}

// publishDeadLetters publishes the dead letters that are pending. The record comes after the publication:
// a crash between them publishes again under the same id.
func (w *Worker) publishDeadLetters(ctx context.Context) error {
	pending, err := w.deps.Store.PendingDeadLetters(ctx, deadLetterBatch)
	if err != nil {
		return err
	}
	for _, d := range pending {
		if err := w.deps.DeadLetters.Publish(ctx, d); err != nil {
			return fmt.Errorf("dead letter of %s: %w", d.ID, err)
		}
		if err := w.deps.Store.DeadLettered(ctx, d.ID); err != nil {
			return err
		}
	}
	if len(pending) == deadLetterBatch {
		w.Wake()
	}
	return nil
}

// record runs f even while the worker stops: an attempt that was made must be known.
func record(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	return f(ctx)
}
