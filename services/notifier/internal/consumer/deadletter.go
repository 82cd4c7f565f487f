package consumer

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/store"
)

// Bus is what dead letters are published on.
type Bus interface {
	Publish(ctx context.Context, m eventbus.Message) error
	Source() string
}

// DeadLetters publishes deliveries that are given up. To replay one publishes the
// verdict again, which makes the failed deliveries of it due again.
type DeadLetters struct {
	bus        Bus
	propagator propagation.TextMapPropagator
	now        func() time.Time
}

// NewDeadLetters publishes on bus.
func NewDeadLetters(bus Bus, propagator propagation.TextMapPropagator, now func() time.Time) *DeadLetters {
	return &DeadLetters{bus: bus, propagator: propagator, now: now}
}

// Publish returns when the dead letter of d is stored. A second one of the same
// attempts is the same fact and stored once.
func (l *DeadLetters) Publish(ctx context.Context, d store.Delivery) error {
	var original eventv1.VerdictReachedEvent
	if err := proto.Unmarshal(d.Event, &original); err != nil {
		return fmt.Errorf("decode stored event: %w", err)
	}
	letter := &eventv1.DeadLetterEvent{
		Meta: &eventv1.EventMeta{
			EventId:   events.ID("delivery", d.ID, strconv.Itoa(d.Attempts), d.GiveUpReason),
			EventTime: timestamppb.New(l.now()),
			Source:    l.bus.Source(),
			TraceId:   d.TraceID,
		},
		Service: events.Notifier, Consumer: events.ConsumerNotifierDeliver,
		Subject: events.SubjectVerdictReached, Stream: d.EventStream, StreamSequence: d.EventSequence,
		Attempts: uint32(d.Attempts),
		Reason:   d.GiveUpReason,
		Message:  fmt.Sprintf("delivery %s to subscription %s: %s", d.ID, d.Subscription, lastError(d)),
		Headers:  originalHeaders(&original),
		Payload:  d.Event,
		Image:    original.GetImage(),
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(letter)
	if err != nil {
		return fmt.Errorf("encode dead letter: %w", err)
	}
	ctx = l.propagator.Extract(ctx, propagation.MapCarrier{"traceparent": d.Traceparent})
	return l.bus.Publish(ctx, eventbus.Message{
		Subject: events.DeadLetterSubject(events.Notifier), ID: letter.GetMeta().GetEventId(),
		Type: string(letter.ProtoReflect().Descriptor().FullName()), Source: letter.GetMeta().GetSource(),
		AboutSubject: d.ImageDigest, ContentType: events.ContentType,
		Time: letter.GetMeta().GetEventTime().AsTime(), Data: data,
	})
}

func lastError(d store.Delivery) string {
	if d.LastError == "" {
		return "given up before an attempt"
	}
	return d.LastError
}

// originalHeaders are the headers that the event travelled with; a replay needs them.
func originalHeaders(e *eventv1.VerdictReachedEvent) map[string]string {
	return map[string]string{
		"Content-Type":   events.ContentType,
		"ce-specversion": "1.0",
		"ce-id":          e.GetMeta().GetEventId(),
		"ce-type":        string(e.ProtoReflect().Descriptor().FullName()),
		"ce-source":      e.GetMeta().GetSource(),
		"ce-time":        e.GetMeta().GetEventTime().AsTime().UTC().Format(time.RFC3339Nano),
	}
}
