package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/wake"
)

// Pushes notes which images are on their way and what tags mean.
type Pushes struct {
	Store store.Store
	Hub   *wake.Hub
	// Resolve asks the registry what a tag means; it is Client.Resolve of package
	// registry.
	Resolve func(context.Context, imageref.Ref) (registry.Descriptor, error)
	// Pauses are the waits before the registry is asked again within one attempt,
	// because it does not say yet what the event says.
	Pauses []time.Duration
	Log    *slog.Logger
	Now    func() time.Time
}

// AskAgain are the usual Pauses.
var AskAgain = []time.Duration{50 * time.Millisecond, 150 * time.Millisecond, 300 * time.Millisecond}

// settledAttempts is how often an event is tried again because the registry does not
// say of the tag what the event says: registries tell of a push before the tag has
// moved. After that the registry is right.
const settledAttempts = 4

// Handle notes a push. An event can say that the evaluation of an image is pending, which makes no
// verdict better. What a tag means it cannot say: that is asked of the registry, with
// the verifier's own credentials, and the order of the answers is that of our clock.
func (p *Pushes) Handle(ctx context.Context, ev *eventv1.ImagePushedEvent, d *eventbus.Delivery) error {
	image := verdictpb.Ref(ev.GetImage())
	if err := checkImage(image, false); err != nil {
		return eventbus.Permanent(reasonMalformedEvent, err)
	}
	if image.Digest != "" {
		pushed := ev.GetMeta().GetEventTime().AsTime()
		if now := p.Now(); pushed.After(now) {
			pushed = now // no verdict would ever be newer than a push in the future
		}
		if err := p.Store.RecordPush(ctx, image, pushed); err != nil {
			return err
		}
		p.Hub.Notify()
	}
	if image.Tag == "" {
		return nil
	}
	for i := 0; ; i++ {
		same, err := p.confirm(ctx, image)
		if err != nil || same {
			return err
		}
		if i == len(p.Pauses) {
			break
		}
		select {
		case <-time.After(p.Pauses[i]):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if d.Attempt < settledAttempts {
		return errors.New("the registry does not say yet what was pushed under the tag")
	}
	p.Log.InfoContext(ctx, "tag no longer points to the pushed image", "image", image.String())
	return nil
}

// unreadable records that the registry's answer for a tag cannot be read, such as one with
// a digest of another algorithm: the tag must not keep the verdict of what it meant before.
// It returns the error with which the push is tried again, as the answer may have been a
// proxy's.
func (p *Pushes) unreadable(ctx context.Context, image imageref.Ref, asked time.Time, cause error) error {
	image = image.WithDigest("")
	if err := p.Store.RecordTag(ctx, image, asked); err != nil {
		return err
	}
	problem := core.Truncate(fmt.Sprintf("what the tag means cannot be judged: %v", cause))
	if err := p.Store.FailTag(ctx, image, problem, asked); err != nil {
		return err
	}
	p.Hub.Notify()
	p.Log.WarnContext(ctx, "what a tag means cannot be judged", "image", image.String(), "error", cause)
	return cause
}

// confirm records what the registry says of a tag, and tells whether that is what was
// pushed.
func (p *Pushes) confirm(ctx context.Context, image imageref.Ref) (same bool, err error) {
	asked := p.Now()
	d, err := p.Resolve(ctx, image.WithDigest(""))
	switch {
	case err == nil:
	case errors.Is(err, registry.ErrNotFound):
		return false, nil
	case errors.Is(err, registry.ErrNotAllowed), errors.Is(err, registry.ErrUnauthorized), errors.Is(err, registry.ErrInvalidReference):
		return false, eventbus.Permanent(reasonRegistryRefused, err)
	case errors.Is(err, registry.ErrMalformed), errors.Is(err, registry.ErrDigestMismatch), errors.Is(err, registry.ErrTooLarge):
		return false, p.unreadable(ctx, image, asked, err)
	default:
		return false, err
	}
	if err := imageref.CheckDigest(d.Digest); err != nil {
		return false, p.unreadable(ctx, image, asked, err)
	}
	if err := p.Store.RecordTag(ctx, image.WithDigest(d.Digest), asked); err != nil {
		return false, err
	}
	p.Hub.Notify()
	return image.Digest == "" || d.Digest == image.Digest, nil
}
