package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/replay"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
)

// DeadLetters ends the way of images that a step gave up on: an image without a
// verdict is UNKNOWN, and says why.
type DeadLetters struct {
	Recorder *Recorder
	Now      func() time.Time
}

// Handle looks at one dead letter. Those of steps after the verdict, and those
// that name no image, change nothing here.
func (l *DeadLetters) Handle(ctx context.Context, ev *eventv1.DeadLetterEvent, _ *eventbus.Delivery) error {
	switch ev.GetSubject() {
	case events.SubjectImagePushed, events.SubjectImageScanned, events.SubjectImageAttested:
	default:
		return nil
	}
	image := verdictpb.Ref(ev.GetImage())
	if err := checkImage(image, false); err != nil {
		l.Recorder.log.WarnContext(ctx, "dead letter names no image",
			"service", ev.GetService(), "reason", ev.GetReason(), "error", err)
		return nil
	}
	problem := fmt.Sprintf("%s gave up: %s: %s", ev.GetConsumer(), ev.GetReason(), ev.GetMessage())
	if image.Digest == "" {
		err := l.Recorder.Store.FailTag(ctx, image, core.Truncate(problem), l.Now())
		l.Recorder.Hub.Notify()
		return err
	}
	for range maxConflicts {
		err := l.fail(ctx, image, problem)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("note failure of %s: %w", image.Digest, store.ErrConflict)
}

func (l *DeadLetters) fail(ctx context.Context, image imageref.Ref, problem string) error {
	latest, err := l.Recorder.latest(ctx, image)
	if err != nil {
		return err
	}
	if latest != nil {
		v, err := verdictpb.Decode(latest.Body, latest.Sequence, latest.Digest, latest.TraceID)
		if err != nil {
			return err
		}
		if wasJudged(v) {
			// What was found out before still stands until it expires.
			err := l.Recorder.Store.Settle(ctx, image)
			l.Recorder.Hub.Notify()
			return err
		}
	}
	return l.Recorder.save(ctx, change{
		Judged: replay.Judged{Verdict: core.Unjudged(image, core.CodePipelineFailed, problem, l.Now())},
		before: latest, revision: store.AnyRevision,
		cause: store.Cause{Kind: core.CausePipeline, Detail: core.Truncate(problem)},
	})
}

// wasJudged tells whether a verdict was made from evidence.
func wasJudged(v *verifierv1.Verdict) bool {
	for _, reason := range v.GetReasons() {
		if reason.GetCode() == string(core.CodePipelineFailed) {
			return false
		}
	}
	return true
}
