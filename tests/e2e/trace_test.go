package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/fleet"
	"github.com/seaworthy-dev/seaworthy/tests/internal/allinone"
	"github.com/seaworthy-dev/seaworthy/tests/internal/images"
	"github.com/seaworthy-dev/seaworthy/tests/internal/otlptest"
	"github.com/seaworthy-dev/seaworthy/tests/internal/subscriber"
)

// One trace covers the whole way of a push: the span in which the subscriber is told
// descends, over NATS and gRPC, from the span in which the webhook was received.
func TestE2E_OneTrace(t *testing.T) {
	spans := otlptest.Start(t)
	told := subscriber.Start(t)
	a := allinone.Start(t, func(c *fleet.Config) {
		c.Telemetry.OTLPEndpoint, c.Telemetry.OTLPInsecure, c.Telemetry.SampleRatio = spans.Endpoint(), true, 1
		c.Subscribe("trace", "http://"+told.Addr()+"/", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
	})
	digest := images.Push(t, images.Clean(t, "trace"), a.Registry()+"/e2e/trace:1")
	verdict := a.Verdict(t, digest)
	trace := verdict.GetTraceId()
	if len(trace) != 32 {
		t.Fatalf("the verdict's trace id is %q", trace)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var received []subscriber.Notification
	for len(received) == 0 {
		select {
		case <-ctx.Done():
			t.Fatal("the subscriber was not told")
		case <-time.After(20 * time.Millisecond):
			received = told.Received(digest)
		}
	}
	if got := received[0].Data.TraceID; got != trace {
		t.Errorf("the notification says trace %s, the verdict %s", got, trace)
	}
	parts := strings.Split(received[0].TraceParent, "-")
	if len(parts) != 4 || parts[1] != trace {
		t.Fatalf("the notification's traceparent is %q, want one of trace %s", received[0].TraceParent, trace)
	}

	spans.Wait(ctx, t, trace, func(got map[string]otlptest.Span) error {
		return errors.Join(
			descends(got, "notifier", tracev1.Span_SPAN_KIND_CLIENT, "gateway", "scanner", "signer", "verifier", "notifier"),
			// The signer asks the scanner for the report, and the verifier for the verdict.
			descends(got, "scanner", tracev1.Span_SPAN_KIND_SERVER, "gateway", "scanner", "signer", "scanner"),
			descends(got, "verifier", tracev1.Span_SPAN_KIND_SERVER, "gateway", "scanner", "signer", "verifier", "signer", "verifier"),
			wholeTree(got),
		)
	})
}

// descends checks that a span of the service and kind has ancestors that lead
// through these services, in this order, from the root of the trace.
func descends(trace map[string]otlptest.Span, service string, kind tracev1.Span_SpanKind, way ...string) error {
	for id, s := range trace {
		if s.Service != service || s.Kind != kind {
			continue
		}
		var services []string
		for _, step := range otlptest.Path(trace, id) {
			name, _, _ := strings.Cut(step, ":")
			services = append(services, name)
		}
		if slices.Equal(slices.Compact(services), way) {
			return nil
		}
	}
	return fmt.Errorf("no span of %s (%s) descends by %v", service, kind, way)
}

// wholeTree checks that there is one root and no span whose parent is missing.
func wholeTree(trace map[string]otlptest.Span) error {
	roots := 0
	for _, s := range trace {
		if s.ParentID == "" {
			roots++
			continue
		}
		if _, ok := trace[s.ParentID]; !ok {
			return fmt.Errorf("the parent of %s:%s is missing", s.Service, s.Name)
		}
	}
	if roots != 1 {
		return fmt.Errorf("%d roots", roots)
	}
	return nil
}
