package consumer_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/consumer"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	t0     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	digest = "sha256:" + strings.Repeat("a", 64)
)

func verdict() *eventv1.VerdictReachedEvent {
	return &eventv1.VerdictReachedEvent{
		Meta: &eventv1.EventMeta{
			EventId: "e1", EventTime: timestamppb.New(t0), Source: "spiffe://seaworthy.local/service/verifier",
			TraceId: "0af7651916cd43dd8448eb211c80319c",
		},
		Image:         &typev1.ImageRef{Registry: "registry.example:5000", Repository: "team/app", Tag: "1.0", Digest: digest},
		VerdictDigest: "sha256:" + strings.Repeat("b", 64),
		State:         eventv1.VerdictReachedEvent_STATE_FAIL, PreviousState: eventv1.VerdictReachedEvent_STATE_PASS,
		Reasons: []string{"because"},
	}
}

func delivery(id string) *eventbus.Delivery {
	return &eventbus.Delivery{Message: eventbus.Message{ID: id}, Stream: "VERDICTS", Sequence: 7}
}

type fixture struct {
	store store.Store
	*consumer.Consumer
	wakes int
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.SQLite(t), store.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context(), store.Migrations()); err != nil {
		t.Fatal(err)
	}
	f := &fixture{store: store.New(db)}
	f.Consumer = consumer.New(f.store, []consumer.Subscription{
		{Name: "all"},
		{Name: "passes", Filter: core.Filter{States: []string{core.StatePass}}},
		{Name: "team", Filter: core.Filter{Repositories: []string{"registry.example:5000/team/*"}}},
	}, func() { f.wakes++ }, obs.Discard("notifier"), func() time.Time { return t0 })
	return f
}

func (f *fixture) list(t *testing.T) []store.Delivery {
	t.Helper()
	list, err := f.store.List(t.Context(), store.Query{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestHandle(t *testing.T) {
	f := newFixture(t)
	ctx, span := obs.Discard("notifier").Tracer().Start(t.Context(), "consume")
	defer span.End()
	for range 2 { // the second is a redelivery
		if err := f.Handle(ctx, verdict(), delivery("e1")); err != nil {
			t.Fatal(err)
		}
	}
	list := f.list(t)
	if len(list) != 2 || f.wakes != 1 {
		t.Fatalf("%d deliveries, %d wakes", len(list), f.wakes)
	}
	for _, d := range list {
		if d.Subscription == "passes" || d.ImageDigest != digest || d.TraceID != "0af7651916cd43dd8448eb211c80319c" || !d.NextAttempt.Equal(t0) {
			t.Errorf("%+v", d)
		}
		if strings.Contains(d.ID, ".") || !strings.Contains(d.Traceparent, trace.SpanContextFromContext(ctx).SpanID().String()) {
			t.Errorf("id %s, traceparent %s", d.ID, d.Traceparent)
		}
		var body struct {
			ID, Subject, Traceparent string
			Data                     map[string]any
		}
		if err := json.Unmarshal(d.Body, &body); err != nil {
			t.Fatal(err)
		}
		if body.ID != d.ID || body.Subject != "registry.example:5000/team/app@"+digest || body.Traceparent != d.Traceparent ||
			body.Data["state"] != "FAIL" || body.Data["previous_state"] != "PASS" || body.Data["trace_id"] != d.TraceID {
			t.Errorf("body %s", d.Body)
		}
	}
	if list[0].ID == list[1].ID {
		t.Error("two subscriptions share an id")
	}
}

func TestHandle_replayMakesFailedDueAgain(t *testing.T) {
	f := newFixture(t)
	if err := f.Handle(t.Context(), verdict(), delivery("e1")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.store.GiveUp(t.Context(), "all", "GONE", time.Time{}, t0); err != nil {
		t.Fatal(err)
	}
	if err := f.Handle(t.Context(), verdict(), delivery("e1")); err != nil { // a redelivery is no replay
		t.Fatal(err)
	}
	if list, err := f.store.List(t.Context(), store.Query{Limit: 9, State: store.StateFailed}); err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	if err := f.Handle(t.Context(), verdict(), delivery("e1-replay-5")); err != nil {
		t.Fatal(err)
	}
	if list, err := f.store.List(t.Context(), store.Query{Limit: 9, State: store.StateFailed}); err != nil || len(list) != 0 || f.wakes != 2 {
		t.Errorf("%v, %v, %d wakes", list, err, f.wakes)
	}
}

func TestHandle_invalid(t *testing.T) {
	for name, change := range map[string]func(*eventv1.VerdictReachedEvent){
		"no image":       func(e *eventv1.VerdictReachedEvent) { e.Image = nil },
		"no digest":      func(e *eventv1.VerdictReachedEvent) { e.Image.Digest = "" },
		"bad repository": func(e *eventv1.VerdictReachedEvent) { e.Image.Repository = "../x" },
		"no state":       func(e *eventv1.VerdictReachedEvent) { e.State = 0 },
		"unknown state":  func(e *eventv1.VerdictReachedEvent) { e.State = 99 },
		"unknown before": func(e *eventv1.VerdictReachedEvent) { e.PreviousState = 99 },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			e := verdict()
			change(e)
			err := f.Handle(t.Context(), e, delivery("e1"))
			if !eventbus.IsPermanent(err) || eventbus.Reason(err) != consumer.ReasonInvalid || len(f.list(t)) > 0 {
				t.Errorf("error %v", err)
			}
		})
	}
}

type bus struct{ sent []eventbus.Message }

func (b *bus) Source() string { return "spiffe://seaworthy.local/service/notifier" }

func (b *bus) Publish(_ context.Context, m eventbus.Message) error {
	b.sent = append(b.sent, m)
	return nil
}

func TestDeadLetters_Publish(t *testing.T) {
	f := newFixture(t)
	if err := f.Handle(t.Context(), verdict(), delivery("e1")); err != nil {
		t.Fatal(err)
	}
	d := f.list(t)[0]
	d.Attempts, d.GiveUpReason, d.LastError = 3, core.ReasonExhausted, "answered 500"
	b := &bus{}
	l := consumer.NewDeadLetters(b, obs.Discard("notifier").Propagator, func() time.Time { return t0 })
	for range 2 {
		if err := l.Publish(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if b.sent[0].ID != b.sent[1].ID || b.sent[0].Subject != events.DeadLetterSubject("notifier") {
		t.Errorf("%+v", b.sent)
	}
	letter, err := events.Decode[*eventv1.DeadLetterEvent](b.sent[0])
	if err != nil {
		t.Fatal(err)
	}
	if letter.GetReason() != core.ReasonExhausted || letter.GetAttempts() != 3 || letter.GetStreamSequence() != 7 ||
		!strings.Contains(letter.GetMessage(), "answered 500") || letter.GetMeta().GetTraceId() == "" {
		t.Errorf("%v", letter)
	}
	// What is inside must be good for a replay.
	original := eventbus.ParseMessage(letter.GetSubject(), letter.GetHeaders(), letter.GetPayload())
	e, err := events.Decode[*eventv1.VerdictReachedEvent](original)
	if err != nil || original.ID != "e1" {
		t.Fatalf("%+v: %v", original, err)
	}
	if diff := cmp.Diff(proto.Message(verdict()), proto.Message(e), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}
