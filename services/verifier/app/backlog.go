package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/consumer"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

// backlog raises one condition while scan reports wait too long to be judged, however
// many images they are about. It is used by one goroutine.
type backlog struct {
	readiness     *lifecycle.Readiness
	log           *slog.Logger
	late, overdue metric.Int64Gauge
	raised        bool
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
	return b, nil
}

func (b *backlog) report(ctx context.Context, now store.Backlog) {
	b.late.Record(ctx, now.Late)
	b.overdue.Record(ctx, now.Overdue)
	if now.Late == 0 && now.Overdue == 0 {
		if b.raised {
			b.log.InfoContext(ctx, "no scan report waits too long any more")
		}
		b.raised = false
		b.readiness.Set("evidence", nil)
		return
	}
	text := fmt.Errorf("%d scan reports wait too long to be judged%s; %d images are UNKNOWN because of it",
		now.Late, since(now.Oldest), now.Overdue)
	b.readiness.Set("evidence", lifecycle.Degraded(text))
	if !b.raised {
		b.log.WarnContext(ctx, "scan reports wait too long to be judged; see the signer and its dead letters",
			"reports", now.Late, "images_unknown", now.Overdue, "oldest", now.Oldest,
			"told_one_by_one", now.Recent <= consumer.MaxTold)
	}
	b.raised = true
}

func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return ", the first since " + t.UTC().Format(time.RFC3339)
}
