package events

import (
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
)

// Original is original, for the fuzz test.
var Original = original

// DeadLetterMessage makes the dead letter of a service with this identity.
func DeadLetterMessage(source string, d *eventbus.Delivery, info eventbus.DeadLetterInfo) (eventbus.Message, error) {
	return deadLetters{source: source}.message(d, info)
}

// Messages returns an empty message of every type in the catalogue.
func Messages() []proto.Message {
	list := []proto.Message{(*eventv1.DeadLetterEvent)(nil)}
	for _, m := range messageOf {
		list = append(list, m)
	}
	return list
}

// Subjects returns every subject that carries a known message.
func Subjects() []string {
	list := deadLetterSubjects()
	for s := range messageOf {
		list = append(list, s)
	}
	return list
}
