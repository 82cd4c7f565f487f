// Package publisher turns what webhooks say into events.
package publisher

import (
	"context"
	"fmt"
	"strings"

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

// Hint is Publish for a hint.
func (p *Publisher) Hint(ctx context.Context, source string, h core.Hint) error {
	image := &typev1.ImageRef{Registry: h.Image.Registry, Repository: h.Image.Repository, Digest: h.Image.Digest}
	id := events.ID("hint", fmt.Sprint(h.Kind), source, image.GetRegistry(), image.GetRepository(), image.GetDigest(), h.Referrer, h.EventID)
	if h.Kind == core.HintDeleted {
		return events.Publish(ctx, p.bus, id, &eventv1.ImageDeletedEvent{Image: image, WebhookSource: source})
	}
	return events.Publish(ctx, p.bus, id, &eventv1.ImageReferrerEvent{
		Image: image, ReferrerDigest: h.Referrer, ArtifactType: clip(h.ArtifactType), WebhookSource: source,
	})
}

// maxArtifactType is what is kept of an artifact type, in bytes.
const maxArtifactType = 255

func clip(s string) string {
	if len(s) <= maxArtifactType {
		return s
	}
	return strings.ToValidUTF8(s[:maxArtifactType], "")
}
