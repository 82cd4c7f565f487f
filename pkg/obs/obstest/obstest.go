// Package obstest looks at the telemetry of a service in tests.
package obstest

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/testkit/output"
)

// Recording keeps what a service logs and traces, before anything is redacted on its way
// out, and what it measures.
type Recording struct {
	*obs.Telemetry

	spans *tracetest.InMemoryExporter
	logs  *output.Buffer
}

// Record makes telemetry that is kept.
func Record(service string) *Recording {
	r := &Recording{spans: tracetest.NewInMemoryExporter(), logs: &output.Buffer{}}
	telemetry := *obs.Discard(service)
	telemetry.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSyncer(r.spans))
	telemetry.Logger = slog.New(slog.NewJSONHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.Telemetry = &telemetry
	return r
}

// Spans are the spans that ended.
func (r *Recording) Spans() tracetest.SpanStubs { return r.spans.GetSpans() }

// NoSecret fails the test if a secret is anywhere in what was recorded.
func (r *Recording) NoSecret(t *testing.T, secret string) {
	t.Helper()
	for _, s := range r.Spans() {
		parts := []string{s.Name, s.Status.Description, s.SpanContext.TraceState().String()}
		add := func(attrs []attribute.KeyValue) {
			for _, a := range attrs {
				parts = append(parts, fmt.Sprintf("%s=%s", a.Key, a.Value.String()))
			}
		}
		add(s.Attributes)
		for _, e := range s.Events {
			parts = append(parts, e.Name)
			add(e.Attributes)
		}
		for _, p := range parts {
			if strings.Contains(p, secret) {
				t.Errorf("span %s holds %s: %s", s.Name, secret, p)
			}
		}
	}
	if logs := r.logs.String(); strings.Contains(logs, secret) {
		t.Errorf("log holds %s: %s", secret, logs)
	}
	for series := range Series(t, r.Registry) {
		if strings.Contains(series, secret) {
			t.Errorf("series holds %s: %s", secret, series)
		}
	}
}

// Series lists the names and labels of all time series of a registry.
func Series(t *testing.T, reg prometheus.Gatherer) map[string]bool {
	t.Helper()
	series := map[string]bool{}
	each(t, reg, func(family string, m *dto.Metric) {
		var b strings.Builder
		b.WriteString(family)
		for _, l := range m.GetLabel() {
			b.WriteString(" " + l.GetName() + "=" + l.GetValue())
		}
		series[b.String()] = true
	})
	return series
}

// NoNewSeries fails the test if there are series that were not there before, or a label
// holds the mark of what the test sent.
func NoNewSeries(t *testing.T, before map[string]bool, reg prometheus.Gatherer, mark string) {
	t.Helper()
	for _, s := range slices.Sorted(maps.Keys(Series(t, reg))) {
		if !before[s] || strings.Contains(s, mark) {
			t.Errorf("new series: %s", s)
		}
	}
}

// HasLabel says whether some series has the label with that value.
func HasLabel(t *testing.T, reg prometheus.Gatherer, name, value string) bool {
	t.Helper()
	found := false
	each(t, reg, func(_ string, m *dto.Metric) {
		for _, l := range m.GetLabel() {
			found = found || l.GetName() == name && l.GetValue() == value
		}
	})
	return found
}

func each(t *testing.T, reg prometheus.Gatherer, do func(family string, m *dto.Metric)) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			do(f.GetName(), m)
		}
	}
}
