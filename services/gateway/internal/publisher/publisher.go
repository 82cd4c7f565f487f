// Package publisher turns pushes into ImagePushed events.
package publisher

import (
	"context"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/core"
)

// Publisher publishes on the event bus.
type Publisher struct{ bus *eventbus.Bus }

// New returns a publisher on bus.
func New(bus *eventbus.Bus) *Publisher { return &Publisher{bus: bus} }

// Publish returns when the event is stored; for the errors see eventbus.Bus.Publish.
// The id follows from the push, so that an event that a registry repeats is one fact.
func (p *Publisher) Publish(ctx context.Context, source string, push core.Push) error {
	i := push.Image
	id := events.ID(source, i.Registry, i.Repository, i.Tag, i.Digest, push.EventID)
	return events.Publish(ctx, p.bus, id, &eventv1.ImagePushedEvent{
		Image: &typev1.ImageRef{
			Registry: i.Registry, Repository: i.Repository, Tag: i.Tag, Digest: i.Digest,
		},
		MediaType:     push.MediaType,
		WebhookSource: source,
		Cause:         eventv1.ImagePushedEvent_CAUSE_WEBHOOK,
	})
}
