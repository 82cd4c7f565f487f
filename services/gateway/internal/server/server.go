// Package server is the gateway's HTTP side: it authenticates webhooks, reads
// them, and answers only after what they say is stored.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"

	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/webhook"
)

// Config bounds what the server takes on. Every field must be set.
type Config struct {
	// MaxBody is the largest body in bytes.
	MaxBody int64
	// Limits bound what is inside a body.
	Limits webhook.Limits
	// MaxConcurrent is the largest number of webhooks under way.
	MaxConcurrent int
	// HeaderTimeout, BodyTimeout and PublishTimeout bound the steps of a request.
	HeaderTimeout, BodyTimeout, PublishTimeout time.Duration
	// RetryAfter is what a registry is told to wait while events cannot be stored.
	RetryAfter time.Duration
	// Sources are the registries that may report pushes.
	Sources []Source
}

// Publisher stores pushes and hints. It returns nil only once they are durable.
type Publisher interface {
	Publish(ctx context.Context, source string, p core.Push) error
	Hint(ctx context.Context, source string, h core.Hint) error
}

// Deps is what the server works with.
type Deps struct {
	// Adapters read the webhooks, by kind.
	Adapters  map[string]webhook.Adapter
	Publisher Publisher
	// Ready returns nil while the gateway can take webhooks.
	Ready func() error
	// IsOwnArtifact recognises attestations and their like.
	IsOwnArtifact func(mediaType, artifactType, tag string) bool
	Telemetry     *obs.Telemetry
	Now           func() time.Time
}

// Server answers webhooks.
type Server struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	sources *sources
	slots   chan struct{}
	metrics *metrics
}

// Path returns the pattern of the webhooks of a kind.
func Path(kind string) string { return "/webhooks/v1/" + kind + "/{source}" }

// maxHeader bounds the headers of a request, in bytes.
const maxHeader = 16 << 10

// New makes a server ready.
func New(cfg Config, d Deps) (*Server, error) {
	m, err := newMetrics(d.Telemetry.Meter())
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return &Server{
		cfg: cfg, deps: d, log: d.Telemetry.Logger,
		sources: newSources(cfg.Sources, d.IsOwnArtifact),
		slots:   make(chan struct{}, cfg.MaxConcurrent),
		metrics: m,
	}, nil
}

// Handler returns all routes, traced.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for kind, adapter := range s.deps.Adapters {
		handle := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.webhook(w, r, adapter) })
		mux.Handle(Path(kind), s.identified(kind, adapter, s.traced(kind, handle)))
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, "ok\n") })
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.refuse(w, r, "", notFound) })
	return s.recovered(mux)
}

// HTTPServer returns a server with the limits that protect it from slow clients.
func (s *Server) HTTPServer() *http.Server {
	return &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: s.cfg.HeaderTimeout,
		// Also bounds what is read after an answer: without it whoever announces a
		// body and never sends it would keep a connection forever, secret or none.
		ReadTimeout:    s.cfg.HeaderTimeout + s.cfg.BodyTimeout,
		IdleTimeout:    time.Minute,
		WriteTimeout:   s.cfg.HeaderTimeout + s.cfg.BodyTimeout + s.cfg.PublishTimeout + 5*time.Second,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// identified finds out which source a request comes from. The trace context of
// anybody else is dropped: strangers do not write into our traces, and a trace
// that they say is sampled costs nothing.
func (s *Server) identified(kind string, adapter webhook.Adapter, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		src := s.sources.authenticate(r, kind, adapter)
		if src == nil {
			for _, header := range (propagation.TraceContext{}).Fields() {
				r.Header.Del(header)
			}
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), sourceKey{}, src)))
	})
}

// traced starts the server span, a child of the sender's if it sent a traceparent.
func (s *Server) traced(kind string, next http.Handler) http.Handler {
	t := s.deps.Telemetry
	return otelhttp.NewHandler(next, "POST "+Path(kind),
		otelhttp.WithTracerProvider(t.TracerProvider),
		otelhttp.WithMeterProvider(t.MeterProvider),
		// Trace context only: baggage of strangers stays outside.
		otelhttp.WithPropagators(propagation.TraceContext{}),
		otelhttp.WithSpanNameFormatter(func(operation string, _ *http.Request) string { return operation }),
	)
}

func (s *Server) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { //nolint:contextcheck // the request carries the context
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			s.log.ErrorContext(r.Context(), "webhook panicked", "panic", fmt.Sprint(p))
			s.refuse(w, r, "", internalError)
		}()
		next.ServeHTTP(w, r)
	})
}

// readyz says only whether: the details are on the admin listener.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	if err := s.deps.Ready(); err != nil {
		notReady.Write(w, r.URL.Path, "")
		return
	}
	writeText(w, "ready\n")
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Write([]byte(text))
}
