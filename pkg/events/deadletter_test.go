package events_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/events/eventstest"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
)

func TestDeadLetter_Complete(t *testing.T) {
	f := eventstest.Start(t)
	gateway, scanner, verifier := f.Bus(events.Gateway), f.Bus(events.Scanner), f.Bus(events.Verifier)
	consume(t, scanner, events.ConsumerScannerScan, func(context.Context, *eventv1.ImagePushedEvent, *eventbus.Delivery) error {
		return eventbus.Permanent("IMAGE_NOT_FOUND", errors.New("no such image: \xff"+strings.Repeat("é", 2000)))
	})
	type letter struct {
		e   *eventv1.DeadLetterEvent
		ctx context.Context
	}
	letters := make(chan letter, 1)
	consume(t, verifier, events.ConsumerVerifierDeadLetters, func(ctx context.Context, e *eventv1.DeadLetterEvent, _ *eventbus.Delivery) error {
		letters <- letter{e, ctx}
		return nil
	})
	ctx, span := obs.Discard("test").Tracer().Start(t.Context(), "webhook")
	defer span.End()
	e := pushed()
	if err := events.Publish(ctx, gateway, "id-1", e); err != nil {
		t.Fatal(err)
	}
	l := receive(t, letters, "dead letter")
	traceID := span.SpanContext().TraceID().String()
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	want := &eventv1.DeadLetterEvent{
		Meta:    &eventv1.EventMeta{Source: "spiffe://seaworthy.local/service/scanner", TraceId: traceID},
		Service: events.Scanner, Consumer: events.ConsumerScannerScan, Subject: events.SubjectImagePushed,
		Stream: events.StreamPushed, StreamSequence: 1, Attempts: 1, Reason: "IMAGE_NOT_FOUND", Payload: payload, Image: image,
	}
	diff := cmp.Diff(want, l.e, protocmp.Transform(),
		protocmp.IgnoreFields(&eventv1.EventMeta{}, "event_id", "event_time"), protocmp.IgnoreFields(&eventv1.DeadLetterEvent{}, "message", "headers"))
	if diff != "" {
		t.Errorf("dead letter (-want +got):\n%s", diff)
	}
	if m := l.e.GetMessage(); len(m) > 2000 || len(m) < 1990 || !strings.HasPrefix(m, "no such image: \uFFFDé") {
		t.Errorf("message has %d bytes: %.40q", len(m), m)
	}
	for _, name := range []string{"traceparent", "tracestate"} {
		if _, ok := l.e.GetHeaders()[name]; ok {
			t.Errorf("header %s is in the dead letter", name)
		}
	}
	if l.e.GetHeaders()["ce-id"] != "id-1" {
		t.Errorf("headers are %v", l.e.GetHeaders())
	}
	if got := trace.SpanContextFromContext(l.ctx).TraceID().String(); got != traceID {
		t.Errorf("the dead letter is handled in trace %s, want %s", got, traceID)
	}
}

func TestReplay(t *testing.T) {
	f := eventstest.Start(t)
	gateway, scanner, operator := f.Bus(events.Gateway), f.Bus(events.Scanner), f.Bus(eventbus.Operator)
	if list, err := events.WaitingDeadLetters(t.Context(), operator, 0, 10); err != nil || len(list) != 0 {
		t.Fatalf("dead letters at the start: %v, %v", list, err)
	}
	type seen struct {
		id, envelope, trace string
	}
	handled := make(chan seen, 10)
	broken := make(chan bool, 10)
	consume(t, scanner, events.ConsumerScannerScan, func(ctx context.Context, e *eventv1.ImagePushedEvent, d *eventbus.Delivery) error {
		if <-broken {
			return eventbus.Permanent("LAYER_CORRUPT", errors.New("corrupt"))
		}
		handled <- seen{d.ID, e.GetMeta().GetEventId(), obs.TraceID(ctx)}
		return nil
	})
	broken <- true
	ctx, span := obs.Discard("test").Tracer().Start(t.Context(), "webhook")
	defer span.End()
	if err := events.Publish(ctx, gateway, "id-1", pushed()); err != nil {
		t.Fatal(err)
	}
	list := waitForLetters(t, operator, 1)
	if list[0].Event.GetReason() != "LAYER_CORRUPT" || !proto.Equal(list[0].Event.GetImage(), image) {
		t.Errorf("dead letter is %v", list[0].Event)
	}

	broken <- true // the first replay fails too, the second works
	first, err := events.ReplayDeadLetter(t.Context(), operator, list[0])
	if err != nil {
		t.Fatal(err)
	}
	list = waitForLetters(t, operator, 2)
	broken <- false
	second, err := events.ReplayDeadLetter(t.Context(), operator, list[1])
	if err != nil {
		t.Fatal(err)
	}
	if first != "id-1-replay-1" || second != "id-1-replay-2" {
		t.Errorf("ids are %s and %s", first, second)
	}
	want := seen{second, "id-1", span.SpanContext().TraceID().String()}
	if got := receive(t, handled, "replayed event"); got != want {
		t.Errorf("handled %+v, want %+v", got, want)
	}
	if page, err := events.WaitingDeadLetters(t.Context(), operator, 2, 1); err != nil || len(page) != 1 || page[0].Sequence != 2 {
		t.Errorf("second page: %v, %v", page, err)
	}
	if _, err := events.WaitingDeadLetters(t.Context(), operator, 0, 1001); err == nil {
		t.Error("a limit of 1001 is accepted")
	}
}

// A dead letter that nobody can read is listed and hides none behind it.
func TestWaitingDeadLetters_undecodable(t *testing.T) {
	f := eventstest.Start(t)
	scanner, operator := f.Bus(events.Scanner), f.Bus(eventbus.Operator)
	good, err := proto.Marshal(&eventv1.DeadLetterEvent{Meta: &eventv1.EventMeta{EventId: "good"}, Service: events.Scanner, Reason: "LAYER_CORRUPT"})
	if err != nil {
		t.Fatal(err)
	}
	for id, data := range map[string][]byte{"1": []byte("\xffno protobuf"), "2": good} {
		if err := scanner.Publish(t.Context(), eventbus.Message{
			Subject: events.DeadLetterSubject(events.Scanner), ID: id, Source: scanner.Source(),
			Type: "seaworthy.event.v1.DeadLetterEvent", ContentType: events.ContentType, Data: data,
		}); err != nil {
			t.Fatal(err)
		}
	}
	reasons := map[string]string{}
	for _, l := range waitForLetters(t, operator, 2) {
		reasons[l.Event.GetReason()] = l.Event.GetService()
	}
	want := map[string]string{events.ReasonUndecodable: events.Scanner, "LAYER_CORRUPT": events.Scanner}
	if diff := cmp.Diff(want, reasons); diff != "" {
		t.Errorf("services by reason (-want +got):\n%s", diff)
	}
}

func waitForLetters(t *testing.T, operator *eventbus.Bus, n int) []events.DeadLetter {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		list, err := events.WaitingDeadLetters(t.Context(), operator, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == n {
			return list
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d dead letters, want %d", len(list), n)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
