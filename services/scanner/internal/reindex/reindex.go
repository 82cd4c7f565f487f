// Package reindex moves the inventories that an earlier release indexed into the index
// of package sets, in the background. What is left to do is what is left in the old
// index, an image at a time, so that it may end at any time and go on later.
package reindex

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/wire"
)

// batch is how many images are asked for at a time.
const batch = 100

// Reports reads reports by their digest.
type Reports interface {
	Report(ctx context.Context, digest string) (*scannerv1.Report, error)
}

// Reindexer moves inventories. Replicas may do it at once.
type Reindexer struct {
	Store   store.Store
	Reports Reports
	Log     *slog.Logger
}

// Run moves what there is at once, and at every interval what replicas of the earlier
// release added while a fleet is updated, until ctx ends.
func (r *Reindexer) Run(ctx context.Context, interval time.Duration) error {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		if err := r.All(ctx); err != nil && ctx.Err() == nil {
			r.Log.ErrorContext(ctx, "indexing the inventories of an earlier release failed", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// All moves every inventory of the old index. One that cannot be read stays in it, and
// is found by it.
func (r *Reindexer) All(ctx context.Context) error {
	moved := 0
	for after := ""; ; {
		images, err := r.Store.OldInventories(ctx, after, batch)
		if err != nil {
			return err
		}
		for _, image := range images {
			after = image
			if err := r.image(ctx, image); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				r.Log.WarnContext(ctx, "an inventory of an earlier release cannot be indexed", "image_digest", image, "error", err)
				continue
			}
			moved++
		}
		if len(images) < batch {
			break
		}
	}
	if moved > 0 {
		r.Log.InfoContext(ctx, "inventories of an earlier release indexed", "images", moved)
	}
	return nil
}

func (r *Reindexer) image(ctx context.Context, digest string) error {
	inv, err := r.Store.Inventory(ctx, digest)
	if err != nil {
		return err
	}
	report, err := r.Reports.Report(ctx, inv.ReportDigest)
	if err != nil {
		return fmt.Errorf("read its report: %w", err)
	}
	return r.Store.Reindex(ctx, digest, inv.ReportDigest, advisory.Index(wire.Domain(report).Packages))
}
