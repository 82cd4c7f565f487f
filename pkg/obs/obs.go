// Package obs is the telemetry of one service: structured logs, traces and
// metrics, built once at start and passed in wherever they are needed. Nothing
// global is set, so that several services can live in one process.
//
//   - Logs: log/slog as JSON or text. Every line carries the service; lines
//     written with a context that has a span carry trace_id and span_id.
//   - Traces: OpenTelemetry over OTLP/gRPC, W3C trace context and baggage.
//   - Metrics: OpenTelemetry, readable from a Prometheus registry.
//
// Secrets do not get out: log lines and exported spans pass Redact.
package obs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/attribute"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/seaworthy-dev/seaworthy/pkg/buildinfo"
)

// scope is the instrumentation scope of what services measure themselves.
const scope = "github.com/seaworthy-dev/seaworthy"

// Telemetry is what a service logs, traces and measures with.
type Telemetry struct {
	// Service is the name in every log line and the service.name of spans and metrics.
	Service string
	// Logger adds the service and, from the context of each line, the trace.
	Logger *slog.Logger
	// TracerProvider makes recording spans with valid ids, exported or not.
	TracerProvider trace.TracerProvider
	// MeterProvider writes to Registry.
	MeterProvider metric.MeterProvider
	// Registry is served under /metrics.
	Registry *prometheus.Registry
	// Propagator carries W3C trace context and baggage.
	Propagator propagation.TextMapPropagator

	shutdown []func(context.Context) error
}

// Start builds the telemetry of a service. Nothing is dialled before the first
// span ends: a collector that is down costs log lines, never a start. The logs
// writer is used until the process ends and is not closed.
func Start(ctx context.Context, service string, cfg Config, logs io.Writer) (*Telemetry, error) {
	handler, err := newHandler(cfg, logs)
	if err != nil {
		return nil, err
	}
	t := &Telemetry{Service: service, Logger: slog.New(newTraceHandler(handler)).With(slog.String("service", service))}
	res, err := newResource(ctx, service)
	if err != nil {
		return nil, err
	}
	exporter, err := newExporter(ctx, cfg, t.Logger)
	if err != nil {
		return nil, err
	}
	opts := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(res),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(cfg.SampleRatio))),
	}
	if exporter != nil {
		opts = append(opts, sdktrace.WithBatcher(exporter))
	}
	if err := t.build(res, opts); err != nil {
		return nil, err
	}
	t.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return t, nil
}

// Discard is telemetry for tests: logs go nowhere, spans are recorded with
// valid ids and exported nowhere, metrics can be read from Registry.
func Discard(service string) *Telemetry {
	t := &Telemetry{Service: service, Logger: slog.New(slog.DiscardHandler)}
	res := resource.NewSchemaless(attribute.String("service.name", service))
	if err := t.build(res, []sdktrace.TracerProviderOption{sdktrace.WithResource(res)}); err != nil {
		panic(fmt.Sprintf("obs: a fresh registry refused the exporter: %v", err))
	}
	return t
}

func (t *Telemetry) build(res *resource.Resource, opts []sdktrace.TracerProviderOption) error {
	t.Registry = prometheus.NewRegistry()
	reader, err := otelprom.New(otelprom.WithRegisterer(t.Registry))
	if err != nil {
		return fmt.Errorf("prometheus exporter: %w", err)
	}
	tp := sdktrace.NewTracerProvider(opts...)
	mp := sdkmetric.NewMeterProvider(sdkmetric.WithResource(res), sdkmetric.WithReader(reader), sdkmetric.WithView(views()...))
	t.TracerProvider, t.MeterProvider = tp, mp
	t.Propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	t.shutdown = []func(context.Context) error{tp.Shutdown, mp.Shutdown}
	return nil
}

func newResource(ctx context.Context, service string) (*resource.Resource, error) {
	res, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(
			attribute.String("service.name", service),
			attribute.String("service.namespace", "seaworthy"),
			attribute.String("service.version", buildinfo.Version()),
		),
		resource.WithHost(),
		resource.WithFromEnv(),
	)
	if err != nil && !errors.Is(err, resource.ErrPartialResource) && !errors.Is(err, resource.ErrSchemaURLConflict) {
		return nil, fmt.Errorf("telemetry resource: %w", err)
	}
	return res, nil
}

// Shutdown exports what is buffered, within ctx, and stops. The Telemetry can
// still be used afterwards; spans are then dropped.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	errs := make([]error, 0, len(t.shutdown))
	for _, f := range t.shutdown {
		errs = append(errs, f(ctx))
	}
	return errors.Join(errs...)
}

// Tracer makes the spans of the service's own steps.
func (t *Telemetry) Tracer() trace.Tracer { return t.TracerProvider.Tracer(scope) }

// Meter makes the service's own instruments.
func (t *Telemetry) Meter() metric.Meter { return t.MeterProvider.Meter(scope) }

// TraceID is the trace of ctx as 32 hex digits, or "" if there is none.
func TraceID(ctx context.Context) string {
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		return sc.TraceID().String()
	}
	return ""
}
