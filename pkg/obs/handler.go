package obs

import (
	"context"
	"log/slog"
	"slices"

	"go.opentelemetry.io/otel/trace"
)

// traceHandler adds trace_id and span_id of the line's context. They stay at
// the top level of the line even under WithGroup, where log queries look for
// them; so once a group is open, the handler is built again from its root for
// lines that have a trace.
type traceHandler struct {
	root    slog.Handler
	current slog.Handler
	// afterGroup replays what was added from the first group on.
	afterGroup []func(slog.Handler) slog.Handler
}

func newTraceHandler(h slog.Handler) *traceHandler {
	return &traceHandler{root: h, current: h}
}

func (h *traceHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return h.current.Enabled(ctx, l)
}

func (h *traceHandler) Handle(ctx context.Context, r slog.Record) error {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return h.current.Handle(ctx, r)
	}
	ids := []slog.Attr{slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String())}
	if len(h.afterGroup) == 0 {
		r = r.Clone()
		r.AddAttrs(ids...)
		return h.current.Handle(ctx, r)
	}
	target := h.root.WithAttrs(ids)
	for _, replay := range h.afterGroup {
		target = replay(target)
	}
	return target.Handle(ctx, r)
}

func (h *traceHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	if len(h.afterGroup) == 0 {
		return newTraceHandler(h.current.WithAttrs(attrs))
	}
	return h.replay(func(s slog.Handler) slog.Handler { return s.WithAttrs(attrs) })
}

func (h *traceHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.replay(func(s slog.Handler) slog.Handler { return s.WithGroup(name) })
}

func (h *traceHandler) replay(step func(slog.Handler) slog.Handler) *traceHandler {
	return &traceHandler{root: h.root, current: step(h.current), afterGroup: append(slices.Clone(h.afterGroup), step)}
}
