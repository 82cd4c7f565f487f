package outbox_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/outbox"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/wake"
)

// TestAudit tells of a change by hand once, in the trace of the call, although the
// first answer of the bus is lost.
func TestAudit(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	_, err := s.CreatePolicy(t.Context(), store.Policy{Name: "mine", Document: "x", Digest: "sha256:aa"}, 9, store.Audit{
		ID: "id", Time: time.Unix(7, 0), Actor: "spiffe://x/operator/ann", Action: "/CreatePolicy",
		Headers: `{"traceparent":"00-` + traceID + `-00f067aa0ba902b7-01"}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu   sync.Mutex
		told []string
	)
	publish := func(ctx context.Context, id string, e proto.Message) error {
		mu.Lock()
		defer mu.Unlock()
		a := e.(*eventv1.AuditRecordedEvent)
		told = append(told, id+" "+a.GetActor()+" "+a.GetAction()+" "+a.GetResource()+" "+
			a.GetMeta().GetEventTime().AsTime().Format(time.TimeOnly)+" "+trace.SpanContextFromContext(ctx).TraceID().String())
		if len(told) == 1 {
			return errors.New("the answer was lost")
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	d := &outbox.Drain{
		Store: s, Publish: publish, Propagator: propagation.TraceContext{}, Hub: &wake.Hub{}, Log: slog.New(slog.DiscardHandler),
	}
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	for {
		left, err := s.Audits(ctx, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	const line = "id spiffe://x/operator/ann /CreatePolicy policy mine v1 00:00:07 " + traceID
	if d := cmp.Diff([]string{line, line}, told); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
}
