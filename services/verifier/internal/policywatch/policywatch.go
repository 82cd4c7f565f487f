// Package policywatch takes the policies of files over into the store: at start, and
// whenever the files have changed.
//
// The files are looked at again and again, because not every file system tells of
// changes. A change counts when two looks in a row see the same, so that half a copy
// is not taken for one. It is taken over as a whole or not at all: a fault keeps the
// last good policies in force and shows in the log, in a metric and in readiness.
package policywatch

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

// Action is what the audit calls a change by files.
const Action = "policies.files"

// Store takes policies over.
type Store interface {
	SyncPolicies(ctx context.Context, fromFiles []store.Policy, by store.Audit) ([]store.Policy, error)
}

// Watch keeps the policies of files in the store.
type Watch struct {
	Source policy.Source
	Loader *policy.Loader
	Store  Store
	// Actor is the service's SPIFFE ID.
	Actor string
	// Every is the time between looks.
	Every time.Duration
	Now   func() time.Time
	Log   *slog.Logger
	// Report is told why the files are not in force as they are; nil if they are.
	Report func(error)

	// applied is the last content that was taken over, seen that of the last look.
	applied, seen [sha256.Size]byte
	// fault is what the log was told last.
	fault   string
	reloads metric.Int64Counter
	faulty  metric.Int64Gauge
}

// Instrument makes the metrics.
func (w *Watch) Instrument(m metric.Meter) (err error) {
	if w.reloads, err = m.Int64Counter("seaworthy.verifier.policy_reloads",
		metric.WithDescription("Changes of policy files, by outcome: applied or refused.")); err != nil {
		return fmt.Errorf("counter: %w", err)
	}
	if w.faulty, err = m.Int64Gauge("seaworthy.verifier.policy_files_faulty",
		metric.WithDescription("1 while the policy files are faulty and the last good ones are in force.")); err != nil {
		return fmt.Errorf("gauge: %w", err)
	}
	return nil
}

// Start takes the files over as they are now. The error names every fault.
func (w *Watch) Start(ctx context.Context) error {
	files, err := w.Source.Read()
	if err != nil {
		return err
	}
	w.seen = policy.Fingerprint(files)
	if err := w.apply(ctx, files); err != nil {
		return err
	}
	w.applied = w.seen
	w.tell(ctx, nil)
	return nil
}

// Run looks at the files until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	tick := time.NewTicker(w.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.look(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// look takes a change over once it has been seen twice.
func (w *Watch) look(ctx context.Context) {
	files, err := w.Source.Read()
	if err != nil {
		w.tell(ctx, err)
		return
	}
	now, before := policy.Fingerprint(files), w.seen
	w.seen = now
	switch now {
	case w.applied:
		w.tell(ctx, nil)
		return
	case before:
	default:
		return // it may still be being written
	}
	if err = w.apply(ctx, files); ctx.Err() != nil {
		return
	}
	if err == nil {
		w.applied = now
		w.reloads.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", "applied")))
	}
	w.tell(ctx, err)
}

// tell says how it is; the log hears of a fault once.
func (w *Watch) tell(ctx context.Context, err error) {
	if err == nil {
		w.fault = ""
		w.faulty.Record(ctx, 0)
		w.Report(nil)
		return
	}
	if text := err.Error(); text != w.fault {
		w.fault = text
		w.reloads.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", "refused")))
		w.Log.ErrorContext(ctx, "policy files refused; the last valid ones stay in force", "error", err)
	}
	w.faulty.Record(ctx, 1)
	w.Report(fmt.Errorf("the policy files are refused, the last good ones are in force: %w", err))
}

func (w *Watch) apply(ctx context.Context, files []policy.File) error {
	set, err := w.Loader.ParseFiles(files)
	if err != nil {
		return err
	}
	stored := make([]store.Policy, 0, len(set))
	for _, p := range set {
		stored = append(stored, store.Policy{Name: p.Name, Digest: p.Digest, Document: p.Document, Repositories: p.Repositories})
	}
	changed, err := w.Store.SyncPolicies(ctx, stored, store.Audit{
		ID: Action, Time: w.Now(), Actor: w.Actor, Action: Action, Headers: "{}",
	})
	if err != nil {
		return err
	}
	for i := range changed {
		w.Log.InfoContext(ctx, "policy changed by its file", "policy", changed[i].Name, "version", changed[i].Version,
			"digest", changed[i].Digest, "deleted", changed[i].Deleted)
	}
	return nil
}
