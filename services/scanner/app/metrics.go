package app

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/reconcile"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/snapshots"
)

// metrics are what an operator watches a scanner by.
type metrics struct {
	duration metric.Float64Histogram
	evidence metric.Int64Counter
	rematch  metric.Int64Counter
	feeds    metric.Int64Counter
	// runs and found are of the comparison of registries with the scans.
	runs, found metric.Int64Counter
}

func newMetrics(t *obs.Telemetry, k *snapshots.Keeper, now func() time.Time) (*metrics, error) {
	m := &metrics{}
	var err error
	m.duration, err = t.Meter().Float64Histogram("seaworthy.scanner.scan.duration", metric.WithUnit("s"),
		metric.WithDescription("Time of an attempt to scan an image; reason is empty for a success."),
		metric.WithExplicitBucketBoundaries(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 900))
	if err != nil {
		return nil, fmt.Errorf("metric: %w", err)
	}
	m.evidence, err = t.Meter().Int64Counter("seaworthy.scanner.evidence.ignored", metric.WithUnit("{push}"),
		metric.WithDescription("Pushes of evidence about an image, which is nothing to scan."))
	if err != nil {
		return nil, fmt.Errorf("metric: %w", err)
	}
	m.rematch, err = t.Meter().Int64Counter("seaworthy.scanner.rematches", metric.WithUnit("{image}"),
		metric.WithDescription("Images matched with new advisories from their stored inventory, by outcome: same, changed, error."))
	if err != nil {
		return nil, fmt.Errorf("metric: %w", err)
	}
	m.feeds, err = t.Meter().Int64Counter("seaworthy.scanner.advisories.refreshes", metric.WithUnit("{refresh}"),
		metric.WithDescription("Attempts to refresh the advisories from the feeds, by outcome: same, changed, error."))
	if err != nil {
		return nil, fmt.Errorf("metric: %w", err)
	}
	m.runs, err = t.Meter().Int64Counter("seaworthy.scanner.reconcile.runs", metric.WithUnit("{run}"),
		metric.WithDescription("Comparisons of a registry with the scans, by registry and outcome: complete, incomplete, error."))
	if err != nil {
		return nil, fmt.Errorf("metric: %w", err)
	}
	m.found, err = t.Meter().Int64Counter("seaworthy.scanner.reconcile.images", metric.WithUnit("{image}"),
		metric.WithDescription("Images by registry and what a comparison did: submitted, deleted, held."))
	if err != nil {
		return nil, fmt.Errorf("metric: %w", err)
	}
	_, err = t.Meter().Float64ObservableGauge("seaworthy.scanner.advisories.age", metric.WithUnit("s"),
		metric.WithDescription("Time since the newest advisory in use was modified."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			if s := k.Current(); s != nil {
				o.Observe(now().Sub(s.Info().DataTime).Seconds())
			}
			return nil
		}))
	if err != nil {
		return nil, fmt.Errorf("metric: %w", err)
	}
	_, err = t.Meter().Int64ObservableGauge("seaworthy.scanner.advisories.count", metric.WithUnit("{advisory}"),
		metric.WithDescription("Advisories in use."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			if s := k.Current(); s != nil {
				o.Observe(s.Info().AdvisoryCount)
			}
			return nil
		}))
	if err != nil {
		return nil, fmt.Errorf("metric: %w", err)
	}
	return m, nil
}

func (m *metrics) scanDone(ctx context.Context, took time.Duration, reason string) {
	m.duration.Record(ctx, took.Seconds(), metric.WithAttributes(attribute.String("reason", reason)))
}

func (m *metrics) ignored(ctx context.Context) { m.evidence.Add(ctx, 1) }

func (m *metrics) rematched(ctx context.Context, changed bool, err error) {
	m.rematch.Add(ctx, 1, outcome(changed, err))
}

func (m *metrics) refreshed(ctx context.Context, changed bool, err error) {
	m.feeds.Add(ctx, 1, outcome(changed, err))
}

func (m *metrics) reconciled(ctx context.Context, registry string, c reconcile.Counts, err error) {
	word := "complete"
	switch {
	case err != nil:
		word = "error"
	case c.Incomplete || c.Failed > 0:
		word = "incomplete"
	}
	m.runs.Add(ctx, 1, metric.WithAttributes(attribute.String("registry", registry), attribute.String("outcome", word)))
	for what, n := range map[string]int{"submitted": c.Submitted, "deleted": c.Deleted, "held": c.Held} {
		m.found.Add(ctx, int64(n), metric.WithAttributes(attribute.String("registry", registry), attribute.String("action", what)))
	}
}

func outcome(changed bool, err error) metric.MeasurementOption {
	word := "same"
	switch {
	case err != nil:
		word = "error"
	case changed:
		word = "changed"
	}
	return metric.WithAttributes(attribute.String("outcome", word))
}
