package consumer_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/consumer"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	t0     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	digest = "sha256:" + strings.Repeat("a", 64)

	verdictDigest = "sha256:" + strings.Repeat("b", 64)
	eventID       = events.ID(verdictDigest, "5")
)

func verdict() *eventv1.VerdictReachedEvent {
	return &eventv1.VerdictReachedEvent{
		Meta: &eventv1.EventMeta{
			EventId: eventID, EventTime: timestamppb.New(t0), Source: "spiffe://seaworthy.local/service/verifier",
			TraceId: "0af7651916cd43dd8448eb211c80319c",
		},
		Image:         &typev1.ImageRef{Registry: "registry.example:5000", Repository: "team/app", Tag: "1.0", Digest: digest},
		VerdictDigest: verdictDigest, Sequence: 5,
		State: eventv1.VerdictReachedEvent_STATE_FAIL, PreviousState: eventv1.VerdictReachedEvent_STATE_PASS,
		Reasons: []string{"RULE_FAILED: because"},
	}
}

func delivery(id string) *eventbus.Delivery {
	return &eventbus.Delivery{Message: eventbus.Message{ID: id}, Stream: "VERDICTS", Sequence: 7}
}

// history is a verifier's, latest change first; with an error it is away.
type history struct {
	changes []*verifierv1.VerdictChange
	err     error
}

func (h *history) GetVerdictHistory(_ context.Context, in *verifierv1.GetVerdictHistoryRequest, _ ...grpc.CallOption) (*verifierv1.GetVerdictHistoryResponse, error) {
	if h.err != nil {
		return nil, h.err
	}
	at, _ := strconv.Atoi(in.GetPageToken())
	resp := &verifierv1.GetVerdictHistoryResponse{}
	if at < len(h.changes) {
		resp.Changes = h.changes[at : at+1]
	}
	if at+1 < len(h.changes) {
		resp.NextPageToken = strconv.Itoa(at + 1)
	}
	return resp, nil
}

// change is what the verifier knows of verdict().
func change(sequence int64) *verifierv1.VerdictChange {
	return &verifierv1.VerdictChange{
		Verdict: &verifierv1.Verdict{
			Image:  &typev1.ImageRef{Registry: "registry.example:5000", Repository: "team/app", Tag: "1.0", Digest: digest},
			Digest: verdictDigest, Sequence: sequence, State: verifierv1.Verdict_STATE_FAIL, EvaluateTime: timestamppb.New(t0),
			TraceId: "0af7651916cd43dd8448eb211c80319c",
			Reasons: []*verifierv1.Reason{{Code: "RULE_FAILED", Message: "because"}},
		},
		PreviousState: verifierv1.Verdict_STATE_PASS,
	}
}

type fixture struct {
	store   store.Store
	history *history
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
	f := &fixture{store: store.New(db), history: &history{changes: []*verifierv1.VerdictChange{change(6), change(5)}}}
	f.Consumer = consumer.New(f.store, []core.Subscription{
		{Name: "all"},
		{Name: "passes", Filter: core.Filter{States: []string{core.StatePass}}},
		{Name: "team", Filter: core.Filter{Repositories: []string{"registry.example:5000/team/*"}}},
	}, f.history, "spiffe://seaworthy.local/service/verifier", func() { f.wakes++ }, obs.Discard("notifier"), func() time.Time { return t0 })
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
		if err := f.Handle(ctx, verdict(), delivery(eventID)); err != nil {
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
		n, err := wire.Decode(d.Event)
		if err != nil || n.Image != "registry.example:5000/team/app" || n.Digest != digest || n.State != "FAIL" || n.PreviousState != "PASS" || n.TraceID != d.TraceID {
			t.Errorf("%+v, %v", n, err)
		}
	}
	if list[0].ID == list[1].ID {
		t.Error("two subscriptions share an id")
	}
}

func TestHandle_replayMakesFailedDueAgain(t *testing.T) {
	f := newFixture(t)
	if err := f.Handle(t.Context(), verdict(), delivery(eventID)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.store.GiveUp(t.Context(), "all", "GONE", time.Time{}, t0); err != nil {
		t.Fatal(err)
	}
	if err := f.Handle(t.Context(), verdict(), delivery(eventID)); err != nil { // a redelivery is no replay
		t.Fatal(err)
	}
	if list, err := f.store.List(t.Context(), store.Query{Limit: 9, State: store.StateFailed}); err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	if err := f.Handle(t.Context(), verdict(), delivery(eventID+"-replay-5")); err != nil {
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
			err := f.Handle(t.Context(), e, delivery(eventID))
			if !eventbus.IsPermanent(err) || eventbus.Reason(err) != consumer.ReasonInvalid || len(f.list(t)) > 0 {
				t.Errorf("error %v", err)
			}
		})
	}
}

// Nobody is told what the verifier does not confirm.
func TestHandle_unconfirmed(t *testing.T) {
	for name, change := range map[string]func(*eventv1.VerdictReachedEvent){
		"another state":      func(e *eventv1.VerdictReachedEvent) { e.State = eventv1.VerdictReachedEvent_STATE_PASS },
		"another before":     func(e *eventv1.VerdictReachedEvent) { e.PreviousState = eventv1.VerdictReachedEvent_STATE_UNKNOWN },
		"another verdict":    func(e *eventv1.VerdictReachedEvent) { e.VerdictDigest = digest },
		"another image":      func(e *eventv1.VerdictReachedEvent) { e.Image.Digest = verdictDigest },
		"another name":       func(e *eventv1.VerdictReachedEvent) { e.Image.Repository = "team/other" },
		"another id":         func(e *eventv1.VerdictReachedEvent) { e.Meta.EventId = "again" },
		"a later change":     func(e *eventv1.VerdictReachedEvent) { e.Sequence = 7 },
		"an older change":    func(e *eventv1.VerdictReachedEvent) { e.Sequence = 4 },
		"no sequence":        func(e *eventv1.VerdictReachedEvent) { e.Sequence = 0 },
		"of another verdict": func(e *eventv1.VerdictReachedEvent) { e.Sequence = 6 },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			e := verdict()
			change(e)
			err := f.Handle(t.Context(), e, delivery(e.GetMeta().GetEventId()))
			if !eventbus.IsPermanent(err) || eventbus.Reason(err) != consumer.ReasonUnconfirmed || len(f.list(t)) > 0 {
				t.Errorf("error %v, %d deliveries", err, len(f.list(t)))
			}
		})
	}
}

// What is told is what the verifier says, also where nothing compares it.
func TestHandle_tellsWhatTheVerifierSays(t *testing.T) {
	f := newFixture(t)
	e := verdict()
	e.Reasons, e.Image.Tag, e.Meta.TraceId = []string{"all is well"}, "latest", "forged"
	e.Meta.Source, e.Meta.EventTime = "forged", timestamppb.New(t0.Add(time.Hour))
	if err := f.Handle(t.Context(), e, delivery(eventID)); err != nil {
		t.Fatal(err)
	}
	for _, d := range f.list(t) {
		n, err := wire.Decode(d.Event)
		if err != nil {
			t.Fatal(err)
		}
		told := fmt.Sprintf("%+v", n)
		for _, forged := range []string{"all is well", "latest", "forged", "13:00"} {
			if strings.Contains(told, forged) {
				t.Errorf("told %q: %s", forged, told)
			}
		}
		if !strings.Contains(told, "RULE_FAILED: because") {
			t.Errorf("told %s", told)
		}
	}
}

// While the verifier is away the event waits.
func TestHandle_verifierAway(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.PermissionDenied, codes.Internal, codes.ResourceExhausted} {
		f := newFixture(t)
		f.history.err = status.Error(code, "no")
		if err := f.Handle(t.Context(), verdict(), delivery(eventID)); err == nil || eventbus.IsPermanent(err) || len(f.list(t)) > 0 {
			t.Errorf("%s: error %v", code, err)
		}
		f.history.err = nil
		if err := f.Handle(t.Context(), verdict(), delivery(eventID)); err != nil || len(f.list(t)) != 2 {
			t.Errorf("%s: after it came back: %v", code, err)
		}
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
	if err := f.Handle(t.Context(), verdict(), delivery(eventID)); err != nil {
		t.Fatal(err)
	}
	d := f.list(t)[0]
	d.Attempts, d.GiveUpReason, d.LastError = 3, core.ReasonExhausted, "status 500"
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
		!strings.Contains(letter.GetMessage(), "status 500") || letter.GetMeta().GetTraceId() == "" {
		t.Errorf("%v", letter)
	}
	// What is inside must be good for a replay.
	original := eventbus.ParseMessage(letter.GetSubject(), letter.GetHeaders(), letter.GetPayload())
	e, err := events.Decode[*eventv1.VerdictReachedEvent](original)
	if err != nil || original.ID != eventID {
		t.Fatalf("%+v: %v", original, err)
	}
	if diff := cmp.Diff(proto.Message(verdict()), proto.Message(e), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}
