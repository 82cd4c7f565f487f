package consumer

import (
	"context"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/wake"
)

// Pushes notes which images are on their way and what tags mean.
type Pushes struct {
	Store store.Store
	Hub   *wake.Hub
}

// Handle notes a push.
func (p *Pushes) Handle(ctx context.Context, ev *eventv1.ImagePushedEvent, _ *eventbus.Delivery) error {
	image := verdictpb.Ref(ev.GetImage())
	if err := checkImage(image, false); err != nil {
		return eventbus.Permanent(reasonMalformedEvent, err)
	}
	if err := p.Store.RecordPush(ctx, image, ev.GetMeta().GetEventTime().AsTime()); err != nil {
		return err
	}
	p.Hub.Notify()
	return nil
}
