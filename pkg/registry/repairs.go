package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/seaworthy-dev/seaworthy/pkg/obs"
)

// repairs tells operators what was replaced below tags that others broke.
type repairs struct {
	log     *slog.Logger
	counter metric.Int64Counter
}

func newRepairs(t *obs.Telemetry) (*repairs, error) {
	counter, err := t.Meter().Int64Counter("registry.tag.repairs",
		metric.WithDescription("Tags with lists of attestations that were repaired, by registry and what was wrong."))
	if err != nil {
		return nil, fmt.Errorf("make counter: %w", err)
	}
	return &repairs{log: t.Logger, counter: counter}, nil
}

// What was wrong with a tag; the values of the counter's attribute.
const (
	damageTooLarge = "too_large"
	damageNotIndex = "not_an_index"
	damageGarbage  = "garbage"
	damageNoRoom   = "no_room"
)

// note is called after a tag was written: before, it was broken, or index,
// which was written back without its garbage and without lost entries.
func (r *repairs) note(ctx context.Context, t target, tag string, before referrersIndex, broken *brokenTagError, lost int) {
	switch {
	case broken != nil && errors.Is(broken.why, ErrTooLarge):
		r.replaced(ctx, t, tag, damageTooLarge, broken.digest, slog.Any("error", broken.why))
	case broken != nil:
		r.replaced(ctx, t, tag, damageNotIndex, broken.digest, slog.Any("error", broken.why))
	case lost > 0 || before.cut:
		r.replaced(ctx, t, tag, damageNoRoom, before.digest, slog.Int("kept", len(before.entries)-lost))
	case before.garbage > 0:
		r.replaced(ctx, t, tag, damageGarbage, before.digest, slog.Int("kept", len(before.entries)))
	}
}

// replaced says that a tag points to something new. Registries keep the old manifest
// under its digest.
func (r *repairs) replaced(ctx context.Context, t target, tag, damage, digest string, more ...slog.Attr) {
	r.counter.Add(ctx, 1, metric.WithAttributes(attribute.String("registry", t.host.name), attribute.String("damage", damage)))
	if digest == "" {
		digest = "unknown"
	}
	attrs := append([]slog.Attr{
		slog.String("repository", t.ref.Name()), slog.String("tag", tag), slog.String("damage", damage),
		slog.String("replaced", digest),
	}, more...)
	r.log.LogAttrs(ctx, slog.LevelWarn, "tag with the list of attestations was broken and is repaired", attrs...)
}
