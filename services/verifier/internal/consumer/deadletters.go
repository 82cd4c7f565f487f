package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

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

// believeAfter is the attempt at a dead letter from which on it is believed although the
// scanner cannot be asked.
const believeAfter = 4

// DeadLetters ends the way of images that a step gave up on: an image without a
// verdict is UNKNOWN, and says why. One with a verdict is too, unless the scanner says that
// the report behind the message is no news to what was judged.
type DeadLetters struct {
	Recorder *Recorder
	Scans    *Scans
	Now      func() time.Time
}

// letterLimits bound the dead letters that are stored.
var letterLimits = store.DeadLetterLimits{Age: 30 * 24 * time.Hour, Bytes: 1 << 30, LeastAge: 24 * time.Hour}

// Handle stores a dead letter, which the stream drops after that, and acts on it.
func (l *DeadLetters) Handle(ctx context.Context, d *eventbus.Delivery) error {
	letter := events.ReadDeadLetter(d)
	body, err := proto.Marshal(letter.Event)
	if err != nil {
		return fmt.Errorf("encode dead letter: %w", err)
	}
	early, err := l.Recorder.Store.KeepDeadLetter(ctx, store.DeadLetter{
		// The digest of an id fits into an index, however long the id is.
		Service: letter.Event.GetService(), EventID: events.ID(letter.Event.GetMeta().GetEventId()),
		Reason: core.Truncate(letter.Event.GetReason()), StoreTime: l.Now(), Traceparent: core.Truncate(letter.Traceparent), Body: body,
	}, letterLimits)
	if err != nil {
		return err
	}
	if early > 0 {
		l.Recorder.log.WarnContext(ctx, "dead letters fill their space; the oldest were dropped before their time",
			"dropped", early, "limit_bytes", letterLimits.Bytes)
	}
	return l.act(ctx, letter.Event, d.Attempt)
}

// act looks at one dead letter. Those of steps after the verdict, and those that name no
// image, change nothing here.
func (l *DeadLetters) act(ctx context.Context, ev *eventv1.DeadLetterEvent, attempt int) error {
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
	problem := core.Truncate(fmt.Sprintf("%s gave up: %s: %s", ev.GetConsumer(), ev.GetReason(), ev.GetMessage()))
	if image.Digest == "" {
		err := l.Recorder.Store.FailTag(ctx, image, problem, l.Now())
		l.Recorder.Hub.Notify()
		return err
	}
	for range maxConflicts {
		err := l.fail(ctx, ev, image, problem, attempt)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("note failure of %s: %w", image.Digest, store.ErrConflict)
}

func (l *DeadLetters) fail(ctx context.Context, ev *eventv1.DeadLetterEvent, image imageref.Ref, problem string, attempt int) error {
	latest, err := l.Recorder.latest(ctx, image)
	if err != nil {
		return err
	}
	if latest != nil {
		// A verdict that cannot be read counts as one: what it was made from is beside it.
		v, err := verdictpb.Decode(latest.Body, latest.Sequence, latest.Digest, latest.TraceID)
		if err != nil || wasJudged(v) {
			return l.giveUp(ctx, ev, image, problem, attempt)
		}
	}
	return l.Recorder.save(ctx, change{
		Judged: replay.Judged{Verdict: core.Unjudged(image, core.CodePipelineFailed, problem, l.Now())},
		before: latest, revision: store.AnyRevision,
		cause: store.Cause{Kind: core.CausePipeline, Detail: problem},
	})
}

// giveUp makes the evidence behind a verdict overdue if the report that a step gave up
// on differs. The verdict follows as for all evidence that is overdue.
func (l *DeadLetters) giveUp(ctx context.Context, ev *eventv1.DeadLetterEvent, image imageref.Ref, problem string, attempt int) error {
	if ev.GetSubject() != events.SubjectImagePushed {
		scan, err := l.scan(ctx, ev, image, attempt)
		if err != nil {
			return err
		}
		if err := l.Scans.record(ctx, scan); err != nil {
			return err
		}
		if _, err := l.Recorder.Store.GiveUp(ctx, scan.Image, scan.Time, problem, l.Now()); err != nil {
			return err
		}
	}
	err := l.Recorder.Store.Settle(ctx, image)
	l.Recorder.Hub.Notify()
	return err
}

// scan is what the scan said that a dead letter is about. Only the scanner can say that it
// was judged already. If it does not know the scan, because its database was lost or the
// dead letter is forged, or does not answer for a while, the dead letter is believed: that
// can make the image UNKNOWN and nothing else.
func (l *DeadLetters) scan(ctx context.Context, ev *eventv1.DeadLetterEvent, image imageref.Ref, attempt int) (store.Scan, error) {
	var about interface {
		proto.Message
		GetScanId() string
		GetScanTime() *timestamppb.Timestamp
	} = &eventv1.ImageScannedEvent{}
	if ev.GetSubject() == events.SubjectImageAttested {
		about = &eventv1.ImageAttestedEvent{}
	}
	if err := proto.Unmarshal(ev.GetPayload(), about); err != nil {
		proto.Reset(about) // which scan is not known: the newest one is asked for
	}
	id := about.GetScanId()
	scan, err := l.Scans.ask(ctx, image, id)
	if err == nil {
		return scan, nil
	}
	if !errors.Is(err, errNoScan) && attempt < believeAfter {
		return store.Scan{}, err
	}
	l.Recorder.log.WarnContext(ctx, "scanner does not confirm the scan of a dead letter; using the dead letter",
		"image", image.String(), "scan_id", id, "service", ev.GetService(), "reason", ev.GetReason(), "error", err)
	scan = store.Scan{Image: byDigest(image), Time: l.Now(), Contents: map[string]string{store.EveryPlatform: store.UnknownContent}}
	if at := cmp.Or(about.GetScanTime(), ev.GetMeta().GetEventTime()); at != nil && at.AsTime().Before(scan.Time) {
		scan.Time = at.AsTime()
	}
	return scan, nil
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
