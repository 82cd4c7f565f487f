package eventbus

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/seaworthy-dev/seaworthy/pkg/obs"
)

// messagingSystem has no constant: NATS is not in the conventions' list.
var messagingSystem = semconv.MessagingSystemKey.String("nats")

// instruments make the spans and metrics of OpenTelemetry's semantic conventions
// for messaging.
type instruments struct {
	tracer      trace.Tracer
	propagator  propagation.TextMapPropagator
	published   metric.Int64Counter
	handled     metric.Int64Counter
	duration    metric.Float64Histogram
	deadLetters metric.Int64Counter
}

func newInstruments(t *obs.Telemetry) (*instruments, error) {
	i := &instruments{tracer: t.Tracer(), propagator: t.Propagator}
	meter := t.Meter()
	var err error
	if i.published, err = meter.Int64Counter("messaging.client.sent.messages",
		metric.WithUnit("{message}"), metric.WithDescription("Messages published, by outcome.")); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	if i.handled, err = meter.Int64Counter("messaging.client.consumed.messages",
		metric.WithUnit("{message}"), metric.WithDescription("Deliveries handled, by outcome.")); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	if i.duration, err = meter.Float64Histogram("messaging.process.duration",
		metric.WithUnit("s"), metric.WithDescription("Time that handlers took."),
		metric.WithExplicitBucketBoundaries(0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	if i.deadLetters, err = meter.Int64Counter("seaworthy.eventbus.dead_letters",
		metric.WithUnit("{message}"), metric.WithDescription("Messages given up on, by reason.")); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return i, nil
}

func sendAttributes(service string, m Message) trace.SpanStartEventOption {
	return trace.WithAttributes(
		messagingSystem, semconv.MessagingOperationTypeSend, semconv.MessagingOperationName("publish"),
		semconv.MessagingDestinationName(m.Subject), semconv.MessagingMessageID(m.ID),
		semconv.MessagingMessageBodySize(len(m.Data)), semconv.MessagingClientID(service))
}

func (i *instruments) sent(ctx context.Context, span trace.Span, m Message, err error) {
	outcome := "stored"
	if err != nil {
		outcome = "failed"
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	i.published.Add(ctx, 1, metric.WithAttributes(messagingSystem,
		semconv.MessagingDestinationName(m.Subject), attribute.String("outcome", outcome)))
}

// extract puts ctx into the trace of the sender. A message without trace leaves
// the trace that the consumer was started in too.
func (i *instruments) extract(ctx context.Context, h nats.Header) context.Context {
	ctx = trace.ContextWithSpanContext(ctx, trace.SpanContext{})
	return i.propagator.Extract(ctx, headerCarrier(h))
}

func processAttributes(d *Delivery) trace.SpanStartEventOption {
	return trace.WithAttributes(
		messagingSystem, semconv.MessagingOperationTypeProcess, semconv.MessagingOperationName("process"),
		semconv.MessagingDestinationName(d.Subject), semconv.MessagingMessageID(d.ID),
		semconv.MessagingMessageBodySize(len(d.Data)), semconv.MessagingConsumerGroupName(d.Consumer),
		attribute.Int("messaging.nats.delivery.attempt", d.Attempt),
		attribute.String("messaging.nats.stream", d.Stream))
}

func (i *instruments) processed(ctx context.Context, span trace.Span, d *Delivery, took time.Duration, outcome string, err error) {
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	span.SetAttributes(attribute.String("seaworthy.eventbus.outcome", outcome))
	set := metric.WithAttributes(messagingSystem, semconv.MessagingDestinationName(d.Subject),
		semconv.MessagingConsumerGroupName(d.Consumer), attribute.String("outcome", outcome))
	i.handled.Add(ctx, 1, set)
	i.duration.Record(ctx, took.Seconds(), set)
}

func (i *instruments) deadLettered(ctx context.Context, d *Delivery, reason string) {
	i.deadLetters.Add(ctx, 1, metric.WithAttributes(
		semconv.MessagingConsumerGroupName(d.Consumer), attribute.String("reason", reason)))
}

// headerCarrier carries the trace context in NATS headers, whose names are case
// sensitive.
type headerCarrier nats.Header

func (c headerCarrier) Get(key string) string {
	if v := c[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func (c headerCarrier) Set(key, value string) { c[key] = []string{value} }

func (c headerCarrier) Keys() []string { return slices.Collect(maps.Keys(c)) }

// mapCarrier is the same for the headers of a Delivery.
type mapCarrier map[string]string

func (c mapCarrier) Get(key string) string { return c[key] }

func (c mapCarrier) Set(key, value string) { c[key] = value }

func (c mapCarrier) Keys() []string { return slices.Collect(maps.Keys(c)) }
