package app

import (
	"context"
	"log/slog"
	"time"
)

// pruneInterval is how often a replica looks for layers to remove.
const pruneInterval = time.Hour

// layerStore is what the pruner needs of the store.
type layerStore interface {
	PruneLayers(ctx context.Context, extractors string, before time.Time) (int64, error)
}

// pruner removes what was found in layers that no scanned image has. Replicas may do
// it at once: what is removed too much costs a pull.
type pruner struct {
	store     layerStore
	log       *slog.Logger
	now       func() time.Time
	retention time.Duration
	set       string
	interval  time.Duration
}

// run prunes at once and then each interval, until ctx ends.
func (p *pruner) run(ctx context.Context) error {
	tick := time.NewTicker(p.interval)
	defer tick.Stop()
	for {
		n, err := p.store.PruneLayers(ctx, p.set, p.now().Add(-p.retention))
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			p.log.LogAttrs(ctx, slog.LevelWarn, "prune layers", slog.Any("error", err))
		case n > 0:
			p.log.LogAttrs(ctx, slog.LevelInfo, "pruned layers", slog.Int64("count", n))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
