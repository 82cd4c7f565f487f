package events_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/events/eventstest"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const patience = 15 * time.Second

var image = &typev1.ImageRef{
	Registry: "registry.example:5000", Repository: "team/app", Tag: "v1",
	Digest: "sha256:" + strings.Repeat("a", 64),
}

func pushed() *eventv1.ImagePushedEvent {
	return &eventv1.ImagePushedEvent{Image: proto.CloneOf(image), Cause: eventv1.ImagePushedEvent_CAUSE_WEBHOOK}
}

func receive[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}

// consume runs until the test ends.
func consume[T proto.Message](t *testing.T, bus *eventbus.Bus, durable string, h func(context.Context, T, *eventbus.Delivery) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- events.Consume(ctx, bus, durable, 1, h) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("consume %s: %v", durable, err)
		}
	})
}

func TestTopology(t *testing.T) {
	if err := events.Topology.Validate(); err != nil {
		t.Fatal(err)
	}
	want := []string{events.Gateway, events.Notifier, events.Scanner, events.Signer, events.Verifier}
	if diff := cmp.Diff(want, events.Topology.Services()); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	durables := map[string]string{}
	sizes := map[string]int32{}
	var bytes int64
	for _, s := range events.Topology.Streams {
		sizes[s.Name] = s.MaxMsgSize
		bytes += s.MaxBytes
		for _, c := range s.Consumers {
			durables[c.Durable] = s.Name
		}
	}
	wantDurables := map[string]string{
		events.ConsumerScannerScan: events.StreamPushed, events.ConsumerVerifierPushes: events.StreamPushed,
		events.ConsumerVerifierReferrers: events.StreamHints, events.ConsumerVerifierDeletions: events.StreamHints,
		events.ConsumerSignerAttest: events.StreamScanned, events.ConsumerVerifierScans: events.StreamScanned, events.ConsumerVerifierEvaluate: events.StreamAttested,
		events.ConsumerSignerVSA: events.StreamVerdicts, events.ConsumerNotifierDeliver: events.StreamVerdicts,
		events.ConsumerVerifierDeadLetters: events.StreamDeadLetter,
	}
	if diff := cmp.Diff(wantDurables, durables); diff != "" {
		t.Errorf("consumers (-want +got):\n%s", diff)
	}
	for name, size := range sizes {
		// The dead letter's own fields take a few kilobytes at most: the text
		// has 2,000 bytes, the headers come out of the original's size.
		if room := sizes[events.StreamDeadLetter] - size; name != events.StreamDeadLetter && room < 64<<10 {
			t.Errorf("a dead letter of a full-size message of %s does not fit: %d bytes of room", name, room)
		}
	}
	if bytes > 2<<30 {
		t.Errorf("streams reserve %d bytes; the servers have 4 GiB", bytes)
	}
}

// Every event message of the proto package has its subject and the other way round.
func TestCatalogue_Complete(t *testing.T) {
	known := map[protoreflect.FullName]bool{}
	for _, e := range events.Messages() {
		known[e.ProtoReflect().Descriptor().FullName()] = true
	}
	protoregistry.GlobalTypes.RangeMessages(func(mt protoreflect.MessageType) bool {
		name := mt.Descriptor().FullName()
		if name.Parent() == "seaworthy.event.v1" && strings.HasSuffix(string(name.Name()), "Event") && !known[name] {
			t.Errorf("%s is not in the catalogue", name)
		}
		return true
	})
	for subject := range events.Topology.Publishers {
		if !slices.Contains(events.Subjects(), subject) {
			t.Errorf("%s carries no known message", subject)
		}
	}
}

func TestID(t *testing.T) {
	seen := map[string][]string{}
	for _, parts := range [][]string{{}, {""}, {"", ""}, {"ab"}, {"a", "b"}, {"ab", ""}, {"", "ab"}, {"a\x00b"}} {
		id := events.ID(parts...)
		if len(id) != 64 {
			t.Errorf("id %q is not 64 digits", id)
		}
		if other, ok := seen[id]; ok {
			t.Errorf("%q and %q share an id", parts, other)
		}
		seen[id] = parts
	}
	// Ids are stored by services; they must not change between releases.
	if got := events.ID("webhook", "sha256:1"); got != "025b999af52c9fa2a95f3a51c50f454cf9867936e805f3533ce83c7e03ee4ba9" {
		t.Errorf("id is %s", got)
	}
}

func TestPublishConsume(t *testing.T) {
	f := eventstest.Start(t)
	gateway, scanner := f.Bus(events.Gateway), f.Bus(events.Scanner)
	type delivery struct {
		e *eventv1.ImagePushedEvent
		d *eventbus.Delivery
	}
	got := make(chan delivery, 1)
	consume(t, scanner, events.ConsumerScannerScan, func(_ context.Context, e *eventv1.ImagePushedEvent, d *eventbus.Delivery) error {
		got <- delivery{e, d}
		return nil
	})
	at := timestamppb.New(time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC))
	e := pushed()
	e.Meta = &eventv1.EventMeta{EventTime: at, Source: "forged", EventId: "forged"}
	ctx, span := obs.Discard("test").Tracer().Start(t.Context(), "webhook")
	defer span.End()
	if err := events.Publish(ctx, gateway, "id-1", e); err != nil {
		t.Fatal(err)
	}
	r := receive(t, got, "event")
	want := pushed()
	want.Meta = &eventv1.EventMeta{
		EventId: "id-1", EventTime: at, Source: "spiffe://seaworthy.local/service/gateway",
		TraceId: span.SpanContext().TraceID().String(),
	}
	if diff := cmp.Diff(want, r.e, protocmp.Transform()); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	if r.d.ID != "id-1" || r.d.Type != "seaworthy.event.v1.ImagePushedEvent" || !r.d.Time.Equal(at.AsTime()) ||
		r.d.AboutSubject != "registry.example:5000/team/app:v1@"+image.GetDigest() || r.d.ContentType != events.ContentType {
		t.Errorf("attributes are %+v", r.d.Message)
	}
}

func TestPublish_Refuses(t *testing.T) {
	f := eventstest.Start(t)
	signer := f.Bus(events.Signer)
	if err := events.Publish(t.Context(), signer, "x", pushed()); !errors.Is(err, eventbus.ErrNotAllowed) {
		t.Errorf("the signer publishes a push: %v", err)
	}
	for _, e := range []proto.Message{&scannerv1.GetScanRequest{}, &eventv1.DeadLetterEvent{}} {
		if err := events.Publish(t.Context(), signer, "x", e); err == nil {
			t.Errorf("%T has no subject of its own but was published", e)
		}
	}
	if err := events.Publish(t.Context(), signer, "", &eventv1.ImageAttestedEvent{}); err == nil {
		t.Error("an event without id was published")
	}
}

func TestConsume_Undecodable(t *testing.T) {
	good := func(t *testing.T) eventbus.Message {
		t.Helper()
		e := pushed()
		e.Meta = &eventv1.EventMeta{EventId: "x"}
		data, err := proto.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return eventbus.Message{
			Subject: events.SubjectImagePushed, ID: t.Name(), Type: "seaworthy.event.v1.ImagePushedEvent",
			Source: "test", ContentType: events.ContentType, Data: data,
		}
	}
	f := eventstest.Start(t)
	gateway, scanner, verifier := f.Bus(events.Gateway), f.Bus(events.Scanner), f.Bus(events.Verifier)
	handled := make(chan string, 10)
	consume(t, scanner, events.ConsumerScannerScan, func(_ context.Context, e *eventv1.ImagePushedEvent, _ *eventbus.Delivery) error {
		handled <- e.GetMeta().GetEventId()
		return nil
	})
	letters := make(chan *eventv1.DeadLetterEvent, 10)
	consume(t, verifier, events.ConsumerVerifierDeadLetters, func(_ context.Context, e *eventv1.DeadLetterEvent, _ *eventbus.Delivery) error {
		letters <- e
		return nil
	})
	for name, change := range map[string]func(*eventbus.Message){
		"garbage":    func(m *eventbus.Message) { m.Data = []byte{0xff, 0xff} },
		"empty":      func(m *eventbus.Message) { m.Data = nil },
		"other type": func(m *eventbus.Message) { m.Type = "seaworthy.event.v1.ImageScannedEvent" },
		"JSON":       func(m *eventbus.Message) { m.ContentType = "application/json" },
		"bad UTF-8":  func(m *eventbus.Message) { m.Data, m.Source = []byte{0x0a, 3, 0x0a, 1, 0xff}, "\xff" },
	} {
		t.Run(name, func(t *testing.T) {
			m := good(t)
			change(&m)
			if err := gateway.Publish(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			e := receive(t, letters, "dead letter")
			if e.GetReason() != events.ReasonUndecodable || e.GetAttempts() != 1 || string(e.GetPayload()) != string(m.Data) {
				t.Errorf("dead letter is %v", e)
			}
		})
	}
	if err := gateway.Publish(t.Context(), good(t)); err != nil {
		t.Fatal(err)
	}
	if id := receive(t, handled, "the good one"); id != "x" {
		t.Errorf("handled %q", id)
	}
}

func FuzzDecode(f *testing.F) {
	for _, e := range []events.Event{
		&eventv1.ImagePushedEvent{Meta: &eventv1.EventMeta{EventId: "a", EventTime: timestamppb.Now()}, Image: image},
		&eventv1.DeadLetterEvent{Meta: &eventv1.EventMeta{EventId: "b"}, Headers: map[string]string{"ce-id": "x"}, Payload: []byte("p")},
		&eventv1.ImageScannedEvent{Meta: &eventv1.EventMeta{EventId: "c"}, Platforms: []*eventv1.ImageScannedEvent_PlatformScan{{Digest: "d"}}},
	} {
		data, err := proto.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "trace", "\xff")
	}
	f.Add([]byte{0xff}, "", "")
	f.Fuzz(func(t *testing.T, data []byte, headerName, headerValue string) {
		for _, known := range events.Messages() {
			name := string(known.ProtoReflect().Descriptor().FullName())
			m := eventbus.Message{Subject: events.SubjectImagePushed, ID: headerValue, Type: name, ContentType: events.ContentType, Data: data}
			if pushedEvent, err := events.Decode[*eventv1.ImagePushedEvent](m); err == nil && pushedEvent.GetMeta().GetEventId() == "" {
				t.Fatal("decoded without id")
			}
			// Whatever it is, its dead letter can be made, read and replayed.
			d := &eventbus.Delivery{Message: m, Header: map[string]string{headerName: headerValue, "traceparent": headerValue}, Sequence: 7}
			letter, err := events.DeadLetterMessage("source", d, eventbus.DeadLetterInfo{Service: events.Scanner, Reason: headerName, Message: headerValue})
			if err != nil {
				t.Fatalf("dead letter: %v", err)
			}
			e, err := events.Decode[*eventv1.DeadLetterEvent](letter)
			if err != nil {
				t.Fatalf("dead letter does not decode: %v", err)
			}
			if string(e.GetPayload()) != string(data) {
				t.Fatal("the payload changed")
			}
			if o := events.Original(e); o.ID == "" || o.Type == "" || o.Source == "" {
				t.Fatalf("replay of %+v", o)
			}
		}
	})
}
