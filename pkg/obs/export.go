package obs

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// newExporter is nil if neither the configuration nor the standard OTel
// environment names a collector.
func newExporter(ctx context.Context, cfg Config, log *slog.Logger) (sdktrace.SpanExporter, error) {
	var opts []otlptracegrpc.Option
	switch {
	case strings.Contains(cfg.OTLPEndpoint, "://"):
		opts = append(opts, otlptracegrpc.WithEndpointURL(cfg.OTLPEndpoint))
	case cfg.OTLPEndpoint != "":
		opts = append(opts, otlptracegrpc.WithEndpoint(cfg.OTLPEndpoint))
	case os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "":
		return nil, nil
	}
	if cfg.OTLPInsecure {
		opts = append(opts, otlptracegrpc.WithInsecure())
	}
	exp, err := otlptracegrpc.New(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("otlp exporter: %w", err)
	}
	return &loggingExporter{SpanExporter: redactingExporter{exp}, log: log}, nil
}

// loggingExporter reports lost spans to the service's own log; the SDK would
// hand the error to a process-wide handler. It logs when exporting starts to
// fail and when it works again, not once a batch.
type loggingExporter struct {
	sdktrace.SpanExporter
	log     *slog.Logger
	failing atomic.Bool
}

func (e *loggingExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil && !e.failing.Swap(true):
		e.log.WarnContext(ctx, "trace export failing", slog.Any("error", err), slog.Int("spans_lost", len(spans)))
	case err == nil && e.failing.Swap(false):
		e.log.InfoContext(ctx, "trace export working again")
	}
	return nil
}
