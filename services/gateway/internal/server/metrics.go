package server

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/core"
)

type metrics struct {
	accepted, hints, filtered, refused metric.Int64Counter
}

func newMetrics(m metric.Meter) (*metrics, error) {
	accepted, err := m.Int64Counter("seaworthy.gateway.pushes.accepted",
		metric.WithDescription("Pushes that were stored, by source."))
	if err != nil {
		return nil, err
	}
	hints, err := m.Int64Counter("seaworthy.gateway.hints.accepted",
		metric.WithDescription("Hints that were stored: pushes of evidence and deletions, by source."))
	if err != nil {
		return nil, err
	}
	filtered, err := m.Int64Counter("seaworthy.gateway.events.filtered",
		metric.WithDescription("Events of no interest, by source and reason."))
	if err != nil {
		return nil, err
	}
	refused, err := m.Int64Counter("seaworthy.gateway.requests.refused",
		metric.WithDescription("Requests that were refused, by source and reason."))
	if err != nil {
		return nil, err
	}
	return &metrics{accepted: accepted, hints: hints, filtered: filtered, refused: refused}, nil
}

func (m *metrics) countAccepted(ctx context.Context, source string, n int) {
	m.accepted.Add(ctx, int64(n), metric.WithAttributes(attribute.String("source", source)))
}

func (m *metrics) countHints(ctx context.Context, source string, n int) {
	m.hints.Add(ctx, int64(n), metric.WithAttributes(attribute.String("source", source)))
}

func (m *metrics) countFiltered(ctx context.Context, source string, reason core.Reason) {
	m.filtered.Add(ctx, 1, metric.WithAttributes(
		attribute.String("source", source), attribute.String("reason", string(reason))))
}

// countRefused takes the name of a source only once it is proven: a name out of a
// path would let anybody make new time series.
func (m *metrics) countRefused(ctx context.Context, source, reason string) {
	m.refused.Add(ctx, 1, metric.WithAttributes(
		attribute.String("source", source), attribute.String("reason", reason)))
}
