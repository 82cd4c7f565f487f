package outbox_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/outbox"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/wake"
)

const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"

// broker is a bus that can be down, and that recognises ids as JetStream does.
type broker struct {
	mu     sync.Mutex
	down   bool
	lose   bool // stores, and fails all the same
	ids    map[string]bool
	events []*eventv1.VerdictReachedEvent
	traces []string
	tries  int
}

func (b *broker) publish(ctx context.Context, id string, e proto.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tries++
	if b.down {
		return errors.New("down")
	}
	if ev, ok := e.(*eventv1.VerdictReachedEvent); ok && !b.ids[id] {
		b.ids[id] = true
		b.events = append(b.events, ev)
		b.traces = append(b.traces, trace.SpanContextFromContext(ctx).TraceID().String())
	}
	if b.lose {
		b.lose = false
		return errors.New("the answer was lost")
	}
	return nil
}

func newStore(t *testing.T) store.Store {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.SQLite(t), "verifier")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context(), store.Migrations()); err != nil {
		t.Fatal(err)
	}
	return store.New(db)
}

func save(t *testing.T, s store.Store, state core.State, after int64) {
	t.Helper()
	image := imageref.Ref{Registry: "r.example", Repository: "app", Tag: "v1", Digest: "sha256:" + strings.Repeat("a", 64)}
	v := core.Unjudged(image, core.CodePipelineFailed, strings.Repeat("x", 600), time.Unix(1, 0))
	v.State = state
	m, err := verdictpb.FromCore(v)
	if err != nil {
		t.Fatal(err)
	}
	body, err := verdictpb.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Save(t.Context(), store.NewVerdict{
		Image: image, State: state, Digest: m.GetDigest(), ChangeKey: m.GetDigest(), TraceID: traceID, Body: body, After: after,
		Headers: `{"traceparent":"00-` + traceID + `-00f067aa0ba902b7-01"}`, CreateTime: time.Unix(1, 0),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNothingLostNothingTwice stores changes while the bus is down, loses an
// answer, and starts again: every change arrives once, in order, in its trace.
func TestNothingLostNothingTwice(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	b := &broker{down: true, ids: map[string]bool{}}
	run := func(until func() bool) {
		t.Helper()
		hub := &wake.Hub{}
		d := &outbox.Drain{
			Store: s, Publish: b.publish, Propagator: propagation.TraceContext{}, Hub: hub, Log: slog.New(slog.DiscardHandler),
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		deadline := time.Now().Add(20 * time.Second)
		for !until() {
			if time.Now().After(deadline) {
				t.Error("not in time")
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	locked := func(f func() bool) func() bool {
		return func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return f()
		}
	}
	save(t, s, core.StateFail, 0)
	save(t, s, core.StatePass, 1)
	run(locked(func() bool { return b.tries > 0 }))
	b.down, b.lose = false, true
	run(func() bool {
		left, err := s.Outbox(t.Context(), 10)
		return err == nil && len(left) == 0
	})
	if len(b.events) != 2 || b.events[0].GetSequence() != 1 || b.events[1].GetSequence() != 2 || b.tries < 4 {
		t.Fatalf("%d events after %d tries: %v", len(b.events), b.tries, b.events)
	}
	if b.events[1].GetPreviousState() != eventv1.VerdictReachedEvent_STATE_FAIL || b.events[1].GetImage().GetTag() != "v1" {
		t.Errorf("event: %v", b.events[1])
	}
	if r := b.events[0].GetReasons(); len(r) != 1 || len(r[0]) > core.MaxText || !strings.HasPrefix(r[0], "PIPELINE_FAILED: ") {
		t.Errorf("reasons: %q", r)
	}
	if b.traces[0] != traceID {
		t.Errorf("published in trace %s", b.traces[0])
	}
}

// TestUnreadableRowsBlockNothing has a verdict that cannot be decoded and headers that
// are none: both changes are published, and the one after them.
func TestUnreadableRowsBlockNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	image := imageref.Ref{Registry: "r.example", Repository: "app", Digest: "sha256:" + strings.Repeat("b", 64)}
	for i, v := range []store.NewVerdict{
		{State: core.StateFail, Body: []byte("\xff\xff"), Headers: `{}`},
		{State: core.StatePass, Body: []byte{}, Headers: "no JSON", After: 1},
	} {
		v.Image, v.Digest, v.ChangeKey, v.Revision = image, "sha256:d", strings.Repeat("k", i+1), store.AnyRevision
		if _, err := s.Save(t.Context(), v); err != nil {
			t.Fatal(err)
		}
	}
	save(t, s, core.StateFail, 0)
	b := &broker{ids: map[string]bool{}}
	d := &outbox.Drain{Store: s, Publish: b.publish, Propagator: propagation.TraceContext{}, Hub: &wake.Hub{}, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	deadline := time.Now().Add(20 * time.Second)
	for {
		left, err := s.Outbox(t.Context(), 10)
		if err == nil && len(left) == 0 || time.Now().After(deadline) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(b.events) != 3 {
		t.Fatalf("%d events: %v", len(b.events), b.events)
	}
	if e := b.events[0]; e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL || e.GetImage().GetDigest() != image.Digest || e.GetSequence() != 1 || e.GetVerdictDigest() == "" {
		t.Errorf("of what cannot be decoded: %v", e)
	}
	if e := b.events[1]; e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Errorf("of what has no trace: %v", e)
	}
}
