package events

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
)

// maxReason bounds the text of a dead letter, in bytes.
const maxReason = 2000

// deadLetters makes the dead letters of one service.
type deadLetters struct {
	source string
	// salt makes ids that nobody else can foresee: the stream drops a message whose id
	// it has seen, and all services write to the one stream of dead letters.
	salt string
}

// message makes the dead letter of d. Whatever d contains, it succeeds as long
// as the memory lasts: a message that cannot be buried would come back forever.
func (l deadLetters) message(d *eventbus.Delivery, info eventbus.DeadLetterInfo) (eventbus.Message, error) {
	e := &eventv1.DeadLetterEvent{
		Meta: &eventv1.EventMeta{
			// The sequence makes a replay's dead letter another fact, the
			// consumer tells two consumers of the same message apart.
			EventId:   ID("deadletter", l.salt, info.Consumer, d.Stream, strconv.FormatUint(d.Sequence, 10), d.ID),
			EventTime: timestamppb.New(info.Time),
			Source:    l.source,
			TraceId:   traceID(d.Header),
		},
		Service: info.Service, Consumer: info.Consumer, Subject: d.Subject,
		Stream: d.Stream, StreamSequence: d.Sequence, Attempts: uint32(max(info.Attempts, 0)),
		Reason: valid(info.Reason), Message: truncate(valid(info.Message), maxReason),
		Headers: headers(d.Header), Payload: d.Data, Image: imageOf(d.Message),
	}
	return message(DeadLetterSubject(info.Service), e)
}

// headers are the original ones without the trace context, as protobuf wants
// them: valid UTF-8.
func headers(h map[string]string) map[string]string {
	m := make(map[string]string, len(h))
	for k, v := range h {
		switch strings.ToLower(k) {
		case "traceparent", "tracestate", "baggage":
		default:
			m[valid(k)] = valid(v)
		}
	}
	return m
}

// traceID is the W3C trace id in a traceparent header, or "".
func traceID(h map[string]string) string {
	parts := strings.Split(h["traceparent"], "-")
	if len(parts) < 4 || len(parts[1]) != 32 {
		return ""
	}
	return valid(parts[1])
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// truncate cuts s to at most n bytes without splitting a character.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// imageOf is the image that a message is about, if it can be read.
func imageOf(m eventbus.Message) *typev1.ImageRef {
	known, ok := messageOf[m.Subject]
	if !ok {
		return nil
	}
	e := known.ProtoReflect().Type().New().Interface()
	if proto.Unmarshal(m.Data, e) != nil {
		return nil
	}
	with, ok := e.(interface{ GetImage() *typev1.ImageRef })
	if !ok {
		return nil
	}
	return with.GetImage()
}

// DeadLetter is a dead letter as it is stored.
type DeadLetter struct {
	Sequence uint64 // names it where it is stored
	Event    *eventv1.DeadLetterEvent
	// Traceparent is the W3C trace context that the letter came with.
	Traceparent string
}

// ReadDeadLetter returns the dead letter in a message. One that cannot be decoded has
// ReasonUndecodable and the message as its payload.
func ReadDeadLetter(d *eventbus.Delivery) DeadLetter {
	e, err := Decode[*eventv1.DeadLetterEvent](d.Message)
	if err != nil {
		e = &eventv1.DeadLetterEvent{
			Meta:   &eventv1.EventMeta{EventId: cmp.Or(valid(d.ID), ID(d.Stream, strconv.FormatUint(d.Sequence, 10))), Source: valid(d.Source)},
			Reason: ReasonUndecodable, Payload: d.Data,
			Message: truncate(valid("the dead letter itself cannot be read: "+err.Error()), maxReason),
		}
	}
	// The subject says who wrote it, whatever the letter claims.
	e.Service = ""
	for _, s := range deadLetterProducers {
		if d.Subject == DeadLetterSubject(s) {
			e.Service = s
		}
	}
	return DeadLetter{Sequence: d.Sequence, Event: e, Traceparent: d.Header["traceparent"]}
}

// maxList bounds one call of WaitingDeadLetters.
const maxList = 1000

// WaitingDeadLetters returns up to limit (1 to 1,000) dead letters that the verifier has
// not stored yet, oldest first, starting with the first at or after the sequence from.
// One that cannot be decoded hides no other. The bus must be connected as
// eventbus.Operator.
func WaitingDeadLetters(ctx context.Context, bus *eventbus.Bus, from uint64, limit int) ([]DeadLetter, error) {
	if limit < 1 || limit > maxList {
		return nil, fmt.Errorf("list dead letters: limit %d is not 1 to %d", limit, maxList)
	}
	var list []DeadLetter
	for len(list) < limit {
		d, err := bus.Read(ctx, StreamDeadLetter, from)
		if errors.Is(err, eventbus.ErrNotFound) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("list dead letters: %w", err)
		}
		list = append(list, ReadDeadLetter(d))
		from = d.Sequence + 1
	}
	return list, nil
}

// replaySuffix is what earlier replays appended to an id.
var replaySuffix = regexp.MustCompile(`-replay-\d+$`)

// ReplayDeadLetter publishes the message in a dead letter again, to all
// consumers of its subject, in the trace of its push, and returns its new id:
// the old one with the suffix `-replay-<seq>`, because a stream would take the
// old id for a repetition. The envelope inside stays as it was, so that what was
// done already is not done twice. The dead letter stays too.
func ReplayDeadLetter(ctx context.Context, bus *eventbus.Bus, l DeadLetter) (id string, err error) {
	m := original(l.Event)
	m.ID = replaySuffix.ReplaceAllString(m.ID, "") + "-replay-" + strconv.FormatUint(l.Sequence, 10)
	trace := &eventbus.Delivery{Header: map[string]string{"traceparent": l.Traceparent}}
	if err := bus.Publish(bus.WithTraceOf(ctx, trace), m); err != nil {
		return "", fmt.Errorf("replay dead letter %d: %w", l.Sequence, err)
	}
	return m.ID, nil
}

// original is the message in a dead letter.
func original(e *eventv1.DeadLetterEvent) eventbus.Message {
	h := maps.Clone(e.GetHeaders())
	m := eventbus.ParseMessage(e.GetSubject(), h, e.GetPayload())
	if m.ID == "" {
		m.ID = ID(e.GetStream(), strconv.FormatUint(e.GetStreamSequence(), 10))
	}
	if m.Type == "" {
		m.Type = "unknown"
	}
	if m.Source == "" {
		m.Source = e.GetMeta().GetSource()
	}
	return m
}
