package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/consumer"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

// backlog raises one condition while scan reports wait too long to be judged or images
// cannot be judged, however many they are. It is used by one goroutine.
type backlog struct {
	readiness                 *lifecycle.Readiness
	log                       *slog.Logger
	late, overdue, unreadable metric.Int64Gauge
	raised                    bool
}

func newBacklog(d service.Deps) (*backlog, error) {
	b := &backlog{readiness: d.Readiness, log: d.Telemetry.Logger}
	var err error
	if b.late, err = d.Telemetry.Meter().Int64Gauge("seaworthy.verifier.reports.late",
		metric.WithDescription("Scan reports that have waited longer than overdue.overtaken_after to be judged.")); err != nil {
		return nil, fmt.Errorf("gauge: %w", err)
	}
	if b.overdue, err = d.Telemetry.Meter().Int64Gauge("seaworthy.verifier.images.overdue",
		metric.WithDescription("Images that are UNKNOWN because their evidence is overdue.")); err != nil {
		return nil, fmt.Errorf("gauge: %w", err)
	}
	if b.unreadable, err = d.Telemetry.Meter().Int64Gauge("seaworthy.verifier.images.unreadable",
		metric.WithDescription("Images that are UNKNOWN because they could not be judged by the rules in force.")); err != nil {
		return nil, fmt.Errorf("gauge: %w", err)
	}
	return b, nil
}

func (b *backlog) report(ctx context.Context, now store.Backlog) {
	b.late.Record(ctx, now.Late)
	b.overdue.Record(ctx, now.Overdue)
	b.unreadable.Record(ctx, now.Unreadable)
	if now.Late == 0 && now.Overdue == 0 && now.Unreadable == 0 {
		if b.raised {
			b.log.InfoContext(ctx, "no evidence is overdue any more")
		}
		b.raised = false
		b.readiness.Set("evidence", nil)
		return
	}
	var problems []error
	if now.Late > 0 || now.Overdue > 0 {
		problems = append(problems, fmt.Errorf("%d scan reports wait too long to be judged%s; %d images are UNKNOWN because of it",
			now.Late, since(now.Oldest), now.Overdue))
	}
	if now.Unreadable > 0 {
		problems = append(problems, fmt.Errorf("%d images are UNKNOWN because they could not be judged by the rules in force; they are tried again", now.Unreadable))
	}
	b.readiness.Set("evidence", lifecycle.Degraded(errors.Join(problems...)))
	if !b.raised {
		b.log.WarnContext(ctx, "evidence overdue; check the signer, its dead letters and the registry",
			"reports", now.Late, "images_overdue", now.Overdue, "oldest", now.Oldest, "images_unreadable", now.Unreadable,
			"told_one_by_one", now.Recent <= consumer.MaxTold && now.Unreadable <= consumer.MaxTold)
	}
	b.raised = true
}

func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return ", the first since " + t.UTC().Format(time.RFC3339)
}
