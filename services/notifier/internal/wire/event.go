// Package wire maps events to the notifier's own types.
package wire

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
)

// Notification returns what an event says to subscribers, without the id and the trace
// context of a delivery.
func Notification(e *eventv1.VerdictReachedEvent) (core.Notification, error) {
	image := e.GetImage()
	ref := imageref.Ref{
		Registry: image.GetRegistry(), Repository: image.GetRepository(),
		Tag: image.GetTag(), Digest: image.GetDigest(),
	}
	if err := ref.Validate(); err != nil {
		return core.Notification{}, fmt.Errorf("image: %w", err)
	}
	if ref.Digest == "" {
		return core.Notification{}, errors.New("image: missing digest")
	}
	state, ok := states[e.GetState()]
	if !ok || state == "" {
		return core.Notification{}, fmt.Errorf("invalid state %v", e.GetState())
	}
	previous, ok := states[e.GetPreviousState()]
	if !ok {
		return core.Notification{}, fmt.Errorf("invalid previous_state %v", e.GetPreviousState())
	}
	return core.Notification{
		Source: e.GetMeta().GetSource(), Time: e.GetMeta().GetEventTime().AsTime(),
		Image: ref.Name(), Tag: ref.Tag, Digest: ref.Digest,
		State: state, PreviousState: previous, Reasons: e.GetReasons(),
		VerdictDigest: e.GetVerdictDigest(), TraceID: e.GetMeta().GetTraceId(),
	}, nil
}

// Decode returns what a stored event says to subscribers.
func Decode(event []byte) (core.Notification, error) {
	var e eventv1.VerdictReachedEvent
	if err := proto.Unmarshal(event, &e); err != nil {
		return core.Notification{}, fmt.Errorf("decode stored event: %w", err)
	}
	return Notification(&e)
}

var states = map[eventv1.VerdictReachedEvent_State]string{
	eventv1.VerdictReachedEvent_STATE_UNSPECIFIED: "",
	eventv1.VerdictReachedEvent_STATE_PASS:        core.StatePass,
	eventv1.VerdictReachedEvent_STATE_FAIL:        core.StateFail,
	eventv1.VerdictReachedEvent_STATE_UNKNOWN:     core.StateUnknown,
}
