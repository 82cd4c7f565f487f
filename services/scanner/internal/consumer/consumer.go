// Package consumer turns pushes into reports: it handles the events of the durable
// scanner-scan.
package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/wire"
)

// ScanID is the identity of the scan that a push leads to. The same push always
// leads to the same scan, however often its event is delivered.
func ScanID(eventID string) string { return "scan-" + events.ID("scan", eventID)[:32] }

// scanOf is the identity of the scan when the event's own belongs to another image:
// ids can be foreseen, so whoever may publish pushes could use up that of a push to
// come, and its image would never be scanned. Nobody can use up this one.
func scanOf(eventID string, image imageref.Ref) string {
	return "scan-" + events.ID("scan-of", eventID, image.Registry, image.Repository, image.Tag, image.Digest)[:32]
}

// Publisher publishes events.
type Publisher interface {
	Publish(ctx context.Context, id string, e *eventv1.ImageScannedEvent) error
	PublishReferrer(ctx context.Context, id string, e *eventv1.ImageReferrerEvent) error
}

// Engine resolves and scans images.
type Engine interface {
	Resolve(ctx context.Context, ref imageref.Ref) (string, *core.Manifest, error)
	Scan(ctx context.Context, ref imageref.Ref, digest string, m *core.Manifest) (*core.Result, error)
}

// Scans handles pushes.
type Scans struct {
	Engine    Engine
	Store     store.Store
	Publisher Publisher
	Log       *slog.Logger
	Now       func() time.Time
	// MaxDeliver is the number of attempts after which the bus gives up.
	MaxDeliver int
	// Done is told of every attempt: how long it took, and "" or the reason it failed.
	Done func(ctx context.Context, took time.Duration, reason string)
	// Ignored is told of every push of evidence about an image.
	Ignored func(ctx context.Context)
}

// errEvidence says that a push was of evidence about an image. Registries whose
// notifications do not carry references send us our own attestations; answering
// them with dead letters would bury the real ones.
var errEvidence = errors.New("evidence about an image")

// Handle scans the image of a push, stores the reports and publishes that they
// exist. It is idempotent: a redelivery after a crash continues where the stored
// state says, and publishes again what may not have been published.
func (s *Scans) Handle(ctx context.Context, e *eventv1.ImagePushedEvent, d *eventbus.Delivery) error {
	start := s.Now()
	err := s.handle(ctx, e, d)
	if errors.Is(err, errEvidence) {
		s.Ignored(ctx)
		return nil
	}
	s.Done(ctx, s.Now().Sub(start), reason(err))
	return err
}

func (s *Scans) handle(ctx context.Context, e *eventv1.ImagePushedEvent, d *eventbus.Delivery) error {
	ref, err := wire.Ref(e.GetImage())
	if err != nil {
		return eventbus.Permanent(core.ReasonInvalidReference, err)
	}
	scan := store.Scan{
		ID: ScanID(e.GetMeta().GetEventId()), Image: ref, State: store.Queued,
		TraceID: obs.TraceID(ctx), CreateTime: s.Now(),
	}
	found, err := s.Store.CreateScan(ctx, scan)
	if err == nil && !isOf(found, ref) {
		s.Log.WarnContext(ctx, "the id of this push was used for another image", "image", ref.String(), "other", found.Image.String())
		scan.ID = scanOf(e.GetMeta().GetEventId(), ref)
		found, err = s.Store.CreateScan(ctx, scan)
	}
	if err != nil {
		return err
	}
	scan = found
	if scan.State != store.Succeeded {
		// A digest that an earlier attempt resolved stays: a tag is resolved once.
		if err := s.scan(ctx, scan.ID, scan.Image); err != nil {
			return s.failed(ctx, scan.ID, err, d)
		}
		if scan, err = s.Store.Scan(ctx, scan.ID); err != nil {
			return err
		}
	}
	return s.publish(ctx, scan)
}

// isOf tells whether a scan is of the image of a push, which may not name the digest.
func isOf(scan store.Scan, ref imageref.Ref) bool {
	return scan.Image.Name() == ref.Name() && scan.Image.Tag == ref.Tag && (ref.Digest == "" || scan.Image.Digest == ref.Digest)
}

// scan makes the reports. An image without a digest is resolved by its tag.
func (s *Scans) scan(ctx context.Context, id string, ref imageref.Ref) error {
	digest, m, err := s.Engine.Resolve(ctx, ref)
	if f := core.AsFault(err); f != nil && f.Evidence && f.Subject != "" {
		// The gateway cannot tell from the notifications of every registry.
		if perr := s.referrer(ctx, ref, digest, f.Subject); perr != nil {
			return perr
		}
	}
	if err != nil {
		return err
	}
	if err := s.Store.StartScan(ctx, id, digest); err != nil {
		return err
	}
	res, err := s.Engine.Scan(ctx, ref, digest, m)
	if err != nil {
		return err
	}
	if err := s.Store.FinishScan(ctx, id, res.Reports, s.Now()); err != nil {
		return err
	}
	s.Log.InfoContext(ctx, "image scanned", "image", ref.WithDigest(digest).String(), "scan_id", id, "platforms", len(res.Reports))
	return nil
}

// referrer publishes that a push was of evidence about an image.
func (s *Scans) referrer(ctx context.Context, ref imageref.Ref, digest, subject string) error {
	id, e := wire.Referrer(ref, digest, subject)
	if err := s.Publisher.PublishReferrer(ctx, id, e); err != nil {
		return fmt.Errorf("publish image referrer: %w", err)
	}
	return nil
}

// failed decides whether another attempt can help. The scan is marked as failed
// when none will come. An attempt that was cut off because the scanner stops says
// nothing about the image, not even if it was the last one.
func (s *Scans) failed(ctx context.Context, id string, err error, d *eventbus.Delivery) error {
	f := core.AsFault(err)
	permanent := f != nil && !f.Temporary
	stopping := errors.Is(ctx.Err(), context.Canceled)
	if !permanent && (d.Attempt < s.MaxDeliver || stopping) {
		return err
	}
	name, message := eventbus.Reason(err), "the scan failed for an internal reason"
	if f != nil {
		name, message = f.Reason, f.Message
	}
	if serr := s.Store.FailScan(context.WithoutCancel(ctx), id, name, message, s.Now()); serr != nil {
		return fmt.Errorf("%w, and it cannot be stored: %w", err, serr)
	}
	if f != nil && f.Evidence {
		s.Log.InfoContext(ctx, "skipping evidence, which is not an image", "scan_id", id, "reason", f.Message)
		return errEvidence
	}
	return eventbus.Permanent(name, err)
}

func (s *Scans) publish(ctx context.Context, scan store.Scan) error {
	id, out := wire.Scanned(scan.ID, scan.Image, scan.Reports, scan.EndTime, eventv1.ImageScannedEvent_CAUSE_PUSH)
	if err := s.Publisher.Publish(ctx, id, out); err != nil {
		return fmt.Errorf("publish image scanned: %w", err)
	}
	return nil
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	if f := core.AsFault(err); f != nil {
		return f.Reason
	}
	return eventbus.Reason(err)
}
