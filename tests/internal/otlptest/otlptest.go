// Package otlptest receives spans as an OpenTelemetry collector does, over OTLP
// gRPC, and keeps them for a test to look at.
package otlptest

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/prototext"
)

// Span is one received span.
type Span struct {
	TraceID, ID, ParentID string
	Service, Name         string
	Kind                  tracev1.Span_SpanKind
}

// Receiver is a running OTLP endpoint.
type Receiver struct {
	collector.UnimplementedTraceServiceServer

	addr    string
	mu      sync.Mutex
	spans   map[string]Span // by span id
	text    strings.Builder
	changed chan struct{}
}

// Start serves OTLP gRPC in plain text on a free loopback port until the test ends.
func Start(t *testing.T) *Receiver {
	t.Helper()
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Receiver{addr: lis.Addr().String(), spans: map[string]Span{}, changed: make(chan struct{})}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, r)
	done := make(chan error, 1)
	go func() { done <- server.Serve(lis) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Errorf("OTLP receiver: %v", err)
		}
	})
	return r
}

// Endpoint is the host and port to export to.
func (r *Receiver) Endpoint() string { return r.addr }

// Export is the RPC of the OTLP trace service.
func (r *Receiver) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintln(&r.text, prototext.Format(req))
	for _, resource := range req.GetResourceSpans() {
		service := ""
		for _, a := range resource.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				id := hex.EncodeToString(s.GetSpanId())
				r.spans[id] = Span{
					TraceID: hex.EncodeToString(s.GetTraceId()), ID: id, ParentID: hex.EncodeToString(s.GetParentSpanId()),
					Service: service, Name: s.GetName(), Kind: s.GetKind(),
				}
			}
		}
	}
	close(r.changed)
	r.changed = make(chan struct{})
	return &collector.ExportTraceServiceResponse{}, nil
}

// Text is everything that was received, for tests that look for what must not be in it.
func (r *Receiver) Text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// Trace returns the spans received of one trace so far, by span id.
func (r *Receiver) Trace(traceID string) map[string]Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	trace := map[string]Span{}
	for id, s := range r.spans {
		if s.TraceID == traceID {
			trace[id] = s
		}
	}
	return trace
}

// Wait returns the trace as soon as ok accepts it, or fails the test with what is
// there when ctx ends.
func (r *Receiver) Wait(ctx context.Context, t *testing.T, traceID string, ok func(map[string]Span) error) map[string]Span {
	t.Helper()
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		trace := r.Trace(traceID)
		err := ok(trace)
		if err == nil {
			return trace
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("trace %s: %v; received:\n%s", traceID, err, Format(trace))
		}
	}
}

// Path names a span and its ancestors, outermost first, as "service:name", so that
// a test can say what must lead to what.
func Path(trace map[string]Span, id string) []string {
	var path []string
	for seen := 0; id != "" && seen <= len(trace); seen++ {
		s, found := trace[id]
		if !found {
			path = append(path, "?")
			break
		}
		path = append(path, s.Service+":"+s.Name)
		id = s.ParentID
	}
	for i, j := 0, len(path)-1; i < j; i, j = i+1, j-1 {
		path[i], path[j] = path[j], path[i]
	}
	return path
}

// Format lists a trace for people, one path a line.
func Format(trace map[string]Span) string {
	var b strings.Builder
	for id := range trace {
		fmt.Fprintf(&b, "  %s\n", strings.Join(Path(trace, id), " > "))
	}
	return b.String()
}
