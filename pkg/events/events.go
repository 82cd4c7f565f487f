package events

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// ContentType is the media type of the payloads.
const ContentType = "application/protobuf"

// ReasonUndecodable is the reason of dead letters whose payload is not the
// message that its subject carries.
const ReasonUndecodable = "UNDECODABLE"

// Connect connects a service to the bus with the fleet's topology; see
// eventbus.Connect. People use eventbus.Operator as the service.
func Connect(ctx context.Context, cfg eventbus.Config, service string, tls *tlsx.Source, t *obs.Telemetry) (*eventbus.Bus, error) {
	return eventbus.Connect(ctx, cfg, options(service, tls, t))
}

func options(service string, tls *tlsx.Source, t *obs.Telemetry) eventbus.Options {
	o := eventbus.Options{Service: service, TLS: tls, Telemetry: t, Topology: Topology, Group: repository}
	if tls != nil {
		o.DeadLetter = deadLetters{source: tls.ID(), salt: rand.Text()}.message
	}
	return o
}

// ID derives an event's id from what makes the fact: the same parts give the
// same id, and no two lists of parts share one.
func ID(parts ...string) string {
	h := sha256.New()
	var length [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(length[:], uint64(len(p)))
		h.Write(length[:])
		h.Write([]byte(p))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Event is a message of the catalogue.
type Event interface {
	proto.Message
	GetMeta() *eventv1.EventMeta
}

// Publish publishes e on the subject of its type and returns when it is stored;
// for the errors see eventbus.Bus.Publish. It fills e's meta: event_id with id,
// source, trace_id from ctx, and event_time with now unless the caller set it.
func Publish(ctx context.Context, bus *eventbus.Bus, id string, e proto.Message) error {
	subject, ok := subjectOf[typeOf(e)]
	if !ok {
		return fmt.Errorf("publish %s: it has no subject", typeOf(e))
	}
	event, ok := e.(Event)
	if !ok {
		return fmt.Errorf("publish %s: it has no envelope", typeOf(e))
	}
	meta := event.GetMeta()
	if meta == nil {
		meta = &eventv1.EventMeta{}
		setMeta(e, meta)
	}
	if meta.GetEventTime() == nil {
		meta.EventTime = timestamppb.New(bus.Now())
	}
	meta.EventId, meta.Source, meta.TraceId = id, bus.Source(), obs.TraceID(ctx)
	m, err := message(subject, event)
	if err != nil {
		return err
	}
	return bus.Publish(ctx, m)
}

// setMeta sets field 1, which is the envelope in every event.
func setMeta(e proto.Message, meta *eventv1.EventMeta) {
	r := e.ProtoReflect()
	r.Set(r.Descriptor().Fields().ByName("meta"), protoreflect.ValueOfMessage(meta.ProtoReflect()))
}

func message(subject string, e Event) (eventbus.Message, error) {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(e)
	if err != nil {
		return eventbus.Message{}, fmt.Errorf("encode %s: %w", typeOf(e), err)
	}
	meta := e.GetMeta()
	return eventbus.Message{
		Subject: subject, ID: meta.GetEventId(), Type: string(typeOf(e)), Source: meta.GetSource(),
		AboutSubject: about(e), ContentType: ContentType, Time: meta.GetEventTime().AsTime(), Data: data,
	}, nil
}

// about names the image that an event is about, or nothing. A name that is too
// long for a header is left out; it is in the payload.
func about(e proto.Message) string {
	with, ok := e.(interface{ GetImage() *typev1.ImageRef })
	if !ok || with.GetImage() == nil {
		return ""
	}
	i := with.GetImage()
	name := i.GetRegistry() + "/" + i.GetRepository()
	if i.GetTag() != "" {
		name += ":" + i.GetTag()
	}
	if i.GetDigest() != "" {
		name += "@" + i.GetDigest()
	}
	if len(name) > 1024 {
		return ""
	}
	return name
}

// repository is the repository that a message is about, as about wrote it: one
// repository must not hold all handlers of a service.
func repository(m *eventbus.Message) string {
	name, _, _ := strings.Cut(m.AboutSubject, "@")
	// A colon after the last slash starts a tag; one before it is a port.
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name
}

// Consume hands the events of a durable to h; see eventbus.Bus.Consume. A
// message that is not a T becomes a dead letter with ReasonUndecodable.
func Consume[T proto.Message](ctx context.Context, bus *eventbus.Bus, durable string, concurrency int, h func(ctx context.Context, e T, d *eventbus.Delivery) error) error {
	return bus.Consume(ctx, durable, concurrency, func(ctx context.Context, d *eventbus.Delivery) error {
		e, err := Decode[T](d.Message)
		if err != nil {
			return eventbus.Permanent(ReasonUndecodable, err)
		}
		return h(ctx, e, d)
	})
}

// Decode returns the event in a message. The type and media type in its headers
// must be those of T, and its envelope must carry an id; unknown fields are
// kept, as a newer release may have sent them.
func Decode[T proto.Message](m eventbus.Message) (T, error) {
	var none T
	if m.ContentType != ContentType {
		return none, fmt.Errorf("content type is %q, want %q", m.ContentType, ContentType)
	}
	if want := string(typeOf(none)); m.Type != want {
		return none, fmt.Errorf("event type is %q, want %q", m.Type, want)
	}
	e, ok := none.ProtoReflect().Type().New().Interface().(T)
	if !ok {
		return none, fmt.Errorf("%s is not a generated message", typeOf(none))
	}
	if err := proto.Unmarshal(m.Data, e); err != nil {
		return none, fmt.Errorf("decode %s: %w", typeOf(none), err)
	}
	if event, ok := any(e).(Event); !ok || event.GetMeta().GetEventId() == "" {
		return none, errors.New("event has no id in its envelope")
	}
	return e, nil
}
