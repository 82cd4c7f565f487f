package demo

import (
	"fmt"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
)

// fact is an event seen on its way.
type fact interface {
	proto.Message
	GetMeta() *eventv1.EventMeta
	GetImage() *typev1.ImageRef
}

// observe sends every event of the pipeline to facts, without taking part in its
// delivery.
func observe(nc *nats.Conn, facts chan<- fact) error {
	kinds := map[string]func() fact{
		events.SubjectImagePushed:    func() fact { return new(eventv1.ImagePushedEvent) },
		events.SubjectImageScanned:   func() fact { return new(eventv1.ImageScannedEvent) },
		events.SubjectImageAttested:  func() fact { return new(eventv1.ImageAttestedEvent) },
		events.SubjectVerdictReached: func() fact { return new(eventv1.VerdictReachedEvent) },
		events.DeadLetterSubject("*"): func() fact {
			return new(eventv1.DeadLetterEvent)
		},
	}
	for subject, empty := range kinds {
		if _, err := nc.Subscribe(subject, func(m *nats.Msg) {
			f := empty()
			if proto.Unmarshal(m.Data, f) == nil {
				facts <- f
			}
		}); err != nil {
			return fmt.Errorf("observe %s: %w", subject, err)
		}
	}
	// Without the flush a push could overtake the subscription.
	if err := nc.Flush(); err != nil {
		return fmt.Errorf("observe events: %w", err)
	}
	return nil
}
