package consumer

import (
	"context"
	"errors"
	"log/slog"
	"time"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
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
	Log     *slog.Logger
	Now     func() time.Time
}

// Handle notes a push. An event can say that an image is on its way, which makes no
// verdict better. What a tag means it cannot say: that is asked of the registry, with
// the verifier's own credentials, and the order of the answers is that of our clock.
func (p *Pushes) Handle(ctx context.Context, ev *eventv1.ImagePushedEvent, _ *eventbus.Delivery) error {
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
	return p.confirm(ctx, image)
}

func (p *Pushes) confirm(ctx context.Context, image imageref.Ref) error {
	asked := p.Now()
	d, err := p.Resolve(ctx, image.WithDigest(""))
	switch {
	case err == nil:
	case errors.Is(err, registry.ErrNotFound):
		p.Log.InfoContext(ctx, "pushed tag is not in the registry", "image", image.String())
		return nil
	case errors.Is(err, registry.ErrNotAllowed), errors.Is(err, registry.ErrUnauthorized), errors.Is(err, registry.ErrInvalidReference):
		return eventbus.Permanent(reasonRegistryRefused, err)
	default:
		return err
	}
	if err := imageref.CheckDigest(d.Digest); err != nil {
		return err
	}
	if image.Digest != "" && d.Digest != image.Digest {
		p.Log.InfoContext(ctx, "tag means another image than was pushed", "image", image.String(), "digest", d.Digest)
	}
	if err := p.Store.RecordTag(ctx, image.WithDigest(d.Digest), asked); err != nil {
		return err
	}
	p.Hub.Notify()
	return nil
}
