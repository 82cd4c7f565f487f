package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/problem"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/webhook"
)

// receipt is the body of a 202.
type receipt struct {
	Accepted int    `json:"accepted"`
	Hints    int    `json:"hints"`
	Filtered int    `json:"filtered"`
	TraceID  string `json:"trace_id,omitempty"`
}

// webhook handles POST /webhooks/v1/{kind}/{source}. Cheap checks come first, and nothing
// is read from a sender that is not authenticated.
func (s *Server) webhook(w http.ResponseWriter, r *http.Request, adapter webhook.Adapter) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		s.refuse(w, r, "", methodNotAllowed)
		return
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		s.refuse(w, r, "", overloaded.WithRetryAfter(s.cfg.RetryAfter))
		return
	}
	src := sourceOf(r.Context())
	if src == nil {
		w.Header().Set("WWW-Authenticate", `Bearer realm="seaworthy"`)
		s.refuse(w, r, "", unauthorized)
		return
	}
	if wait := s.throttled(src); wait > 0 {
		s.refuse(w, r, src.name, tooManyRequests.WithRetryAfter(wait))
		return
	}
	events, p := s.read(w, r, adapter)
	if p != nil {
		s.refuse(w, r, src.name, *p)
		return
	}
	pushes, hints, filtered, err := s.classify(r.Context(), src, events)
	if err != nil {
		s.refuse(w, r, src.name, invalidEvent.WithDetail(err.Error()))
		return
	}
	if err := s.publish(r.Context(), src, pushes, hints); err != nil {
		s.refuseUnstored(w, r, src, err)
		return
	}
	s.accept(w, r, src, len(pushes), len(hints), filtered)
}

// throttled returns how long src must wait; zero if not at all.
func (s *Server) throttled(src *source) time.Duration {
	now := s.deps.Now()
	reservation := src.limiter.ReserveN(now, 1)
	delay := reservation.DelayFrom(now)
	if delay > 0 {
		reservation.CancelAt(now)
	}
	return delay
}

// read returns the events of the body.
func (s *Server) read(w http.ResponseWriter, r *http.Request, adapter webhook.Adapter) ([]core.Event, *problem.Problem) {
	if p := checkContentType(r, adapter.MediaTypes()); p != nil {
		return nil, p
	}
	tooLarge := bodyTooLarge.WithDetail(fmt.Sprintf("at most %d bytes are read", s.cfg.MaxBody))
	if r.ContentLength > s.cfg.MaxBody {
		return nil, &tooLarge
	}
	body, err := s.readBody(w, r)
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, &tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		p := bodyTooSlow.WithDetail(fmt.Sprintf("it must arrive within %v", s.cfg.BodyTimeout))
		return nil, &p
	case err != nil:
		return nil, &bodyIncomplete
	}
	events, err := adapter.Parse(body, s.cfg.Limits)
	if err != nil {
		p := invalidEnvelope.WithDetail(err.Error())
		return nil, &p
	}
	return events, nil
}

func checkContentType(r *http.Request, want []string) *problem.Problem {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(want, mediaType) {
		p := unsupportedType.WithDetail("Content-Type must be " + strings.Join(want, " or "))
		return &p
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		p := unsupportedType.WithDetail("Content-Encoding is not supported")
		return &p
	}
	return nil
}

// readBody reads at most MaxBody bytes in at most BodyTimeout. The deadline is
// taken back: one that passes while the event is stored would end the request.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	ctl := http.NewResponseController(w)
	if err := ctl.SetReadDeadline(time.Now().Add(s.cfg.BodyTimeout)); err != nil {
		return nil, fmt.Errorf("read deadline: %w", err)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.cfg.MaxBody))
	if err != nil {
		return nil, err
	}
	return body, ctl.SetReadDeadline(time.Time{})
}

// classify sorts the events before any is published, so that an envelope is
// stored as a whole or refused as a whole.
func (s *Server) classify(ctx context.Context, src *source, events []core.Event) ([]core.Push, []core.Hint, int, error) {
	var pushes []core.Push
	var hints []core.Hint
	var reasons []core.Reason
	for _, e := range events {
		push, reason, err := src.classifier.Classify(e)
		if err != nil {
			return nil, nil, 0, err
		}
		if push == nil {
			if hint := src.classifier.Hint(e); hint != nil {
				hints = append(hints, *hint)
				continue
			}
			reasons = append(reasons, reason)
			continue
		}
		if e.Host != "" && e.Host != src.classifier.Registry {
			// Worth knowing when a source is set up wrong; never worth believing.
			s.log.WarnContext(ctx, "event names another registry", "source", src.name,
				"registry", src.classifier.Registry, "event_host", e.Host)
		}
		pushes = append(pushes, *push)
	}
	for _, reason := range reasons {
		s.metrics.countFiltered(ctx, src.name, reason)
	}
	return pushes, hints, len(reasons), nil
}

// publish keeps the order of the envelope: of two pushes of a tag the later wins. Hints
// come last, so that they cannot hold back a push.
func (s *Server) publish(ctx context.Context, src *source, pushes []core.Push, hints []core.Hint) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.PublishTimeout)
	defer cancel()
	for _, p := range pushes {
		if err := s.deps.Publisher.Publish(ctx, src.name, p); err != nil {
			return err
		}
	}
	for _, h := range hints {
		if err := s.deps.Publisher.Hint(ctx, src.name, h); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) accept(w http.ResponseWriter, r *http.Request, src *source, accepted, hints, filtered int) {
	ctx := r.Context()
	s.metrics.countAccepted(ctx, src.name, accepted)
	s.metrics.countHints(ctx, src.name, hints)
	trace.SpanFromContext(ctx).SetAttributes(
		attribute.String("seaworthy.source", src.name),
		attribute.Int("seaworthy.pushes", accepted))
	if accepted > 0 {
		s.log.InfoContext(ctx, "webhook accepted", "source", src.name, "pushes", accepted, "hints", hints, "filtered", filtered)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	// The pushes are stored; a client that went away will repeat them, which is harmless.
	_ = json.NewEncoder(w).Encode(receipt{Accepted: accepted, Hints: hints, Filtered: filtered, TraceID: obs.TraceID(ctx)})
}

// refuseUnstored answers when the event bus did not take all pushes. The registry
// repeats the envelope; those already stored are recognised by their id.
func (s *Server) refuseUnstored(w http.ResponseWriter, r *http.Request, src *source, err error) {
	s.log.WarnContext(r.Context(), "push not stored", "source", src.name, "error", err)
	switch {
	case errors.Is(err, eventbus.ErrFull):
		s.refuse(w, r, src.name, busFull.WithRetryAfter(s.cfg.RetryAfter))
	case errors.Is(err, eventbus.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		s.refuse(w, r, src.name, busUnavailable.WithRetryAfter(s.cfg.RetryAfter))
	default:
		s.refuse(w, r, src.name, internalError)
	}
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, source string, p problem.Problem) {
	ctx := r.Context()
	s.metrics.countRefused(ctx, source, p.Slug())
	s.log.DebugContext(ctx, "request refused", "source", source, "reason", p.Slug(), "status", p.Status)
	p.Write(w, r.URL.Path, obs.TraceID(ctx))
}
