package worker

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

type metrics struct{ attempts, givenUp metric.Int64Counter }

func newMetrics(m metric.Meter) (*metrics, error) {
	attempts, err := m.Int64Counter("seaworthy.notifier.attempts",
		metric.WithDescription("Attempts to deliver, by subscription and outcome: delivered, retried, failed."))
	if err != nil {
		return nil, err
	}
	givenUp, err := m.Int64Counter("seaworthy.notifier.deliveries.given_up",
		metric.WithDescription("Deliveries given up, by subscription and reason."))
	if err != nil {
		return nil, err
	}
	return &metrics{attempts: attempts, givenUp: givenUp}, nil
}

func (m *metrics) countAttempt(ctx context.Context, subscription, outcome string) {
	m.attempts.Add(ctx, 1, metric.WithAttributes(
		attribute.String("subscription", subscription), attribute.String("outcome", outcome)))
}

func (m *metrics) countGivenUp(ctx context.Context, subscription, reason string, n int) {
	m.givenUp.Add(ctx, int64(n), metric.WithAttributes(
		attribute.String("subscription", subscription), attribute.String("reason", reason)))
}
