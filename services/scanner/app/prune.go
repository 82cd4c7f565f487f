package app

import (
	"context"
	"log/slog"
	"time"
)

// pruneInterval is how often a replica looks for layers to remove.
const pruneInterval = time.Hour

// pruneSets is how many sets of packages one transaction removes.
const pruneSets = 500

// layerStore is what the pruner needs of the store.
type layerStore interface {
	PruneLayers(ctx context.Context, extractors string, before time.Time) (int64, error)
	PruneIndex(ctx context.Context, n int) (int64, error)
}

// pruner removes what was found in layers that no scanned image has, and what the
// index has of packages that no image has. Replicas may do it at once: what is removed
// too much costs a pull.
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
		p.tell(ctx, "layers", n, err)
		n, err = p.pruneIndex(ctx)
		p.tell(ctx, "package_sets", n, err)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (p *pruner) pruneIndex(ctx context.Context) (all int64, err error) {
	for {
		n, err := p.store.PruneIndex(ctx, pruneSets)
		if all += n; err != nil || n < pruneSets {
			return all, err
		}
	}
}

func (p *pruner) tell(ctx context.Context, what string, n int64, err error) {
	switch {
	case ctx.Err() != nil:
	case err != nil:
		p.log.LogAttrs(ctx, slog.LevelWarn, "prune", slog.String("what", what), slog.Any("error", err))
	case n > 0:
		p.log.LogAttrs(ctx, slog.LevelInfo, "pruned", slog.String("what", what), slog.Int64("count", n))
	}
}
