package consumer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
)

// ReasonUnconfirmed is the reason of dead letters of events about a change that the
// verifier does not have.
const ReasonUnconfirmed = "VERDICT_NOT_CONFIRMED"

const (
	confirmTimeout = 10 * time.Second
	// maxLater bounds how many later changes of an image are looked through.
	maxLater = 200
	// maxReasons and maxReason bound what is told of a verdict's reasons.
	maxReasons = 20
	maxReason  = 500
)

// History is what the notifier asks the verifier.
type History interface {
	GetVerdictHistory(ctx context.Context, in *verifierv1.GetVerdictHistoryRequest, opts ...grpc.CallOption) (*verifierv1.GetVerdictHistoryResponse, error)
}

// confirm asks the verifier for the change that an event is about and returns the
// event as the verifier tells it. An event alone proves nothing: whoever may publish
// one could have any subscriber told anything, with the subscriber's own secret.
func (c *Consumer) confirm(ctx context.Context, e *eventv1.VerdictReachedEvent) (*eventv1.VerdictReachedEvent, error) {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	change, err := c.change(ctx, e)
	if err != nil {
		return nil, err
	}
	v := change.GetVerdict()
	for _, f := range []struct {
		name       string
		says, told any
	}{
		{"image", name(v.GetImage()), name(e.GetImage())},
		{"verdict digest", v.GetDigest(), e.GetVerdictDigest()},
		{"state", int32(v.GetState()), int32(e.GetState())},
		{"previous state", int32(change.GetPreviousState()), int32(e.GetPreviousState())},
		{"id", events.ID(v.GetDigest(), strconv.FormatInt(v.GetSequence(), 10)), e.GetMeta().GetEventId()},
	} {
		if f.says != f.told {
			return nil, unconfirmed("change %d has the %s %v, the event says %v", e.GetSequence(), f.name, f.says, f.told)
		}
	}
	told := &eventv1.VerdictReachedEvent{
		Meta: &eventv1.EventMeta{
			EventId: e.GetMeta().GetEventId(), EventTime: timestamppb.New(v.GetEvaluateTime().AsTime()),
			Source: c.source, TraceId: v.GetTraceId(),
		},
		Image: v.GetImage(), VerdictDigest: v.GetDigest(), State: e.GetState(), PreviousState: e.GetPreviousState(),
		Sequence: v.GetSequence(),
	}
	for _, r := range v.GetReasons()[:min(len(v.GetReasons()), maxReasons)] {
		told.Reasons = append(told.Reasons, truncate(r.GetCode()+": "+r.GetMessage()))
	}
	for _, p := range v.GetPlatforms() {
		told.PlatformDigests = append(told.PlatformDigests, p.GetDigest())
	}
	return told, nil
}

// change finds the change with the event's sequence, which is usually the latest of
// the image.
func (c *Consumer) change(ctx context.Context, e *eventv1.VerdictReachedEvent) (*verifierv1.VerdictChange, error) {
	i := e.GetImage()
	req := &verifierv1.GetVerdictHistoryRequest{
		Image:    &typev1.ImageRef{Registry: i.GetRegistry(), Repository: i.GetRepository(), Digest: i.GetDigest()},
		PageSize: 1,
	}
	for range maxLater {
		resp, err := c.history.GetVerdictHistory(ctx, req)
		switch status.Code(err) {
		case codes.OK:
		case codes.NotFound, codes.InvalidArgument:
			return nil, unconfirmed("the verifier does not know the image: %w", err)
		default:
			// Also PERMISSION_DENIED: a verifier that is older than this notifier.
			return nil, fmt.Errorf("ask the verifier for change %d: %w", e.GetSequence(), err)
		}
		for _, change := range resp.GetChanges() {
			if change.GetVerdict().GetSequence() == e.GetSequence() {
				return change, nil
			}
			if change.GetVerdict().GetSequence() < e.GetSequence() {
				return nil, unconfirmed("the verifier has no change %d of %s", e.GetSequence(), name(i))
			}
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return nil, unconfirmed("the verifier has no change %d of %s", e.GetSequence(), name(i))
		}
	}
	return nil, eventbus.Permanent(ReasonUnconfirmed, errors.New("too many later changes"))
}

func unconfirmed(format string, a ...any) error {
	return eventbus.Permanent(ReasonUnconfirmed, fmt.Errorf(format, a...))
}

func name(i *typev1.ImageRef) string {
	return i.GetRegistry() + "/" + i.GetRepository() + "@" + i.GetDigest()
}

// truncate cuts a reason as the verifier cuts it for its events.
func truncate(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxReason {
		return s
	}
	const ellipsis = "…"
	return strings.ToValidUTF8(s[:maxReason-len(ellipsis)], "") + ellipsis
}
