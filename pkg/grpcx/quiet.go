package grpcx

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	rpccode "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/seaworthy-dev/seaworthy/pkg/obs"
)

// quietHandler measures calls of quiet methods like otelgrpc does and leaves out
// their spans, unless the caller's trace is recorded: for a method that answers in
// microseconds a span costs more than the answer.
type quietHandler struct {
	stats.Handler // of all other calls

	methods  map[string]bool
	duration metric.Float64Histogram

	mu sync.RWMutex
	// sets are the attributes of measurements, by method and code.
	sets map[quietOutcome]metric.MeasurementOption
}

type quietOutcome struct {
	method string
	code   codes.Code
}

// quietKey marks the context of a quiet call with its method.
type quietKey struct{}

func quiet(full stats.Handler, methods []string, t *obs.Telemetry) (stats.Handler, error) {
	if len(methods) == 0 {
		return full, nil
	}
	h := &quietHandler{Handler: full, methods: map[string]bool{}, sets: map[quietOutcome]metric.MeasurementOption{}}
	for _, m := range methods {
		h.methods[m] = true
	}
	var err error
	// Name and unit are those of otelgrpc, and the buckets those of a view in obs, so that
	// all calls are in one metric.
	h.duration, err = t.Meter().Float64Histogram("rpc.server.call.duration",
		metric.WithDescription("Measures the duration of an incoming Remote Procedure Call (RPC)."), metric.WithUnit("s"))
	if err != nil {
		return nil, fmt.Errorf("histogram: %w", err)
	}
	return h, nil
}

// TagRPC implements stats.Handler.
func (h *quietHandler) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if !h.methods[info.FullMethodName] || callerTraces(ctx) {
		return h.Handler.TagRPC(ctx, info)
	}
	return context.WithValue(ctx, quietKey{}, info.FullMethodName)
}

// callerTraces tells whether the caller records the trace: the last of the four
// fields of the W3C header has its lowest bit set.
func callerTraces(ctx context.Context) bool {
	for _, parent := range metadata.ValueFromIncomingContext(ctx, "traceparent") {
		if i := strings.LastIndexByte(parent, '-'); i >= 0 && i+3 == len(parent) && strings.IndexByte("13579bdf", parent[i+2]) >= 0 {
			return true
		}
	}
	return false
}

// HandleRPC implements stats.Handler.
func (h *quietHandler) HandleRPC(ctx context.Context, s stats.RPCStats) {
	method, ok := ctx.Value(quietKey{}).(string)
	if !ok {
		h.Handler.HandleRPC(ctx, s)
		return
	}
	if end, ok := s.(*stats.End); ok {
		h.duration.Record(ctx, end.EndTime.Sub(end.BeginTime).Seconds(), h.attributes(method, status.Code(end.Error)))
	}
}

func (h *quietHandler) attributes(method string, code codes.Code) metric.MeasurementOption {
	key := quietOutcome{method, code}
	h.mu.RLock()
	set, ok := h.sets[key]
	h.mu.RUnlock()
	if ok {
		return set
	}
	set = metric.WithAttributeSet(attribute.NewSet(
		attribute.String("rpc.system.name", "grpc"), attribute.String("rpc.method", strings.TrimPrefix(method, "/")),
		attribute.String("rpc.response.status_code", rpccode.Code(code).String())))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sets[key] = set
	return set
}
