package obs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEveryLineCarriesServiceAndTrace(t *testing.T) {
	var out bytes.Buffer
	tel, err := Start(t.Context(), "scanner", DefaultConfig(), &out)
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Shutdown(context.WithoutCancel(t.Context()))
	ctx, span := tel.Tracer().Start(t.Context(), "scan")
	defer span.End()

	grouped := tel.Logger.With("a", 1).WithGroup("image").With("digest", "sha256:1")
	tests := map[string]func(){
		"plain":           func() { tel.Logger.InfoContext(ctx, "plain") },
		"with attributes": func() { tel.Logger.With("a", 1).InfoContext(ctx, "x", "b", 2) },
		"in a group":      func() { grouped.InfoContext(ctx, "x", "size", 7) },
	}
	for name, log := range tests {
		t.Run(name, func(t *testing.T) {
			out.Reset()
			log()
			var line map[string]any
			if err := json.Unmarshal(out.Bytes(), &line); err != nil {
				t.Fatalf("%v: %s", err, out.String())
			}
			if line["service"] != "scanner" || line["trace_id"] != TraceID(ctx) || line["span_id"] != span.SpanContext().SpanID().String() {
				t.Errorf("line %s", out.String())
			}
		})
	}
	out.Reset()
	grouped.InfoContext(ctx, "x", "size", 7)
	var line struct {
		A     int
		Image map[string]any
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.A != 1 || line.Image["digest"] != "sha256:1" || line.Image["size"] != 7.0 || line.Image["trace_id"] != nil {
		t.Errorf("grouped line %s", out.String())
	}
	out.Reset()
	tel.Logger.Info("x")
	if strings.Contains(out.String(), "trace_id") {
		t.Errorf("a line without a trace claims one: %s", out.String())
	}
}

func TestLevelsAndFormats(t *testing.T) {
	var out bytes.Buffer
	tel, err := Start(t.Context(), "scanner", Config{LogLevel: "warn", LogFormat: "text"}, &out)
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Shutdown(context.WithoutCancel(t.Context()))
	tel.Logger.Info("quiet")
	tel.Logger.Warn("loud")
	if got := out.String(); strings.Contains(got, "quiet") || !strings.Contains(got, "msg=loud") {
		t.Errorf("log: %s", got)
	}
	for _, bad := range []Config{{LogLevel: "loud"}, {LogFormat: "xml"}} {
		if _, err := Start(t.Context(), "scanner", bad, io.Discard); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

func TestTraceIDs(t *testing.T) {
	if got := TraceID(t.Context()); got != "" {
		t.Errorf("TraceID without a span = %q", got)
	}
	ctx, span := Discard("x").Tracer().Start(t.Context(), "s")
	if got := TraceID(ctx); len(got) != 32 || !span.SpanContext().IsSampled() {
		t.Errorf("TraceID = %q, sampled %v", got, span.SpanContext().IsSampled())
	}
}

func TestSamplingKeepsTheCallersDecision(t *testing.T) {
	cfg := DefaultConfig()
	cfg.SampleRatio = 0
	tel, err := Start(t.Context(), "scanner", cfg, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Shutdown(context.WithoutCancel(t.Context()))
	_, own := tel.Tracer().Start(t.Context(), "own")
	if own.SpanContext().IsSampled() || !own.SpanContext().IsValid() {
		t.Error("a trace of our own is recorded at ratio 0, or has no ids")
	}
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled, Remote: true})
	_, child := tel.Tracer().Start(trace.ContextWithRemoteSpanContext(t.Context(), parent), "child")
	if !child.SpanContext().IsSampled() {
		t.Error("the caller's recorded trace was cut")
	}
}

func TestMetricsReachTheRegistry(t *testing.T) {
	tel := Discard("scanner")
	counter, err := tel.Meter().Int64Counter("scans")
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(t.Context(), 3)
	if got := value(t, tel.Registry, "scans_total"); got != 3 {
		t.Errorf("scans_total = %v", got)
	}
}

func value(t *testing.T, reg prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// collector is an OTLP receiver.
type collector struct {
	collectorv1.UnimplementedTraceServiceServer
	mu    sync.Mutex
	names []string
}

func (c *collector) Export(_ context.Context, r *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range r.GetResourceSpans() {
		service := ""
		for _, a := range rs.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				c.names = append(c.names, service+"/"+s.GetName())
			}
		}
	}
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

func startCollector(t *testing.T) (*collector, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, s := &collector{}, grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(s, c)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return c, l.Addr().String()
}

func TestShutdownExportsOverOTLP(t *testing.T) {
	tests := map[string]struct {
		config func(addr string) Config
		env    func(addr string) string
	}{
		"host and port":    {config: func(a string) Config { return Config{OTLPEndpoint: a, OTLPInsecure: true, SampleRatio: 1} }},
		"url":              {config: func(a string) Config { return Config{OTLPEndpoint: "http://" + a, SampleRatio: 1} }},
		"from environment": {config: func(string) Config { return Config{SampleRatio: 1} }, env: func(a string) string { return "http://" + a }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, addr := startCollector(t)
			if tt.env != nil {
				t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", tt.env(addr))
			}
			tel, err := Start(t.Context(), "scanner", tt.config(addr), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			_, span := tel.Tracer().Start(t.Context(), "scan")
			span.End()
			if err := tel.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(c.names) != 1 || c.names[0] != "scanner/scan" {
				t.Errorf("the collector got %q", c.names)
			}
		})
	}
}

type flaky struct{ err error }

func (f *flaky) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return f.err }
func (f *flaky) Shutdown(context.Context) error                             { return nil }

func TestExportFailureIsLoggedOnce(t *testing.T) {
	var out bytes.Buffer
	f := &flaky{err: errors.New("collector down")}
	e := &loggingExporter{SpanExporter: f, log: slog.New(slog.NewTextHandler(&out, nil))}
	for range 3 {
		if err := e.ExportSpans(t.Context(), nil); err != nil {
			t.Errorf("the error went to the process-wide handler: %v", err)
		}
	}
	f.err = nil
	e.ExportSpans(t.Context(), nil)
	if got := out.String(); strings.Count(got, "trace export failing") != 1 || strings.Count(got, "working again") != 1 {
		t.Errorf("log:\n%s", got)
	}
}

func TestConfigValidate(t *testing.T) {
	var good config.Problems
	c := DefaultConfig()
	c.OTLPEndpoint = "collector:4317"
	c.Validate(&good)
	if err := good.Err(); err != nil || len(good.Warnings()) != 0 {
		t.Errorf("defaults: %v %q", err, good.Warnings())
	}
	var bad config.Problems
	Config{LogLevel: "loud", LogFormat: "xml", OTLPEndpoint: "ftp://x", SampleRatio: math.NaN()}.Validate(bad.In("telemetry"))
	for _, key := range []string{"telemetry.log_level", "telemetry.log_format", "telemetry.otlp_endpoint", "telemetry.sample_ratio"} {
		if !strings.Contains(bad.Err().Error(), key) {
			t.Errorf("nothing about %s in:\n%v", key, bad.Err())
		}
	}
	for endpoint, warns := range map[string]bool{"collector:4317": true, "127.0.0.1:4317": false, "http://[::1]:4317": false, "localhost:4317": false} {
		var p config.Problems
		Config{OTLPEndpoint: endpoint, OTLPInsecure: true}.Validate(&p)
		if got := len(p.Warnings()) == 1; got != warns || p.Err() != nil {
			t.Errorf("%s without TLS: warnings %q, error %v", endpoint, p.Warnings(), p.Err())
		}
	}
}

func ExampleStart() {
	ctx := context.Background()
	t, err := Start(ctx, "scanner", DefaultConfig(), io.Discard)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, span := t.Tracer().Start(ctx, "scan")
	t.Logger.InfoContext(ctx, "scan finished") // carries trace_id and span_id
	span.End()
	fmt.Println(len(TraceID(ctx)), t.Shutdown(ctx))
	// Output: 32 <nil>
}
