package evidence

import (
	"context"
	"fmt"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
)

// atOnce is how many attestations of one image are on their way at a time. All of
// their bundles are in memory in any case.
const atOnce = 4

// attach attaches what has to be, reads it back and marks it as done.
func (w *Writer) attach(ctx context.Context, ref imageref.Ref, subject registry.Descriptor, work []claim) error {
	var todo []*claim
	for i := range work {
		if work[i].attach {
			todo = append(todo, &work[i])
		}
	}
	if len(todo) == 0 {
		return nil
	}
	if err := each(ctx, todo, func(ctx context.Context, c *claim) error { return w.put(ctx, ref, subject, c) }); err != nil {
		return err
	}
	listed, err := w.listed(ctx, ref)
	if err != nil {
		return err
	}
	return each(ctx, todo, func(ctx context.Context, c *claim) error {
		if err := w.readBack(ctx, ref, c.entry, listed); err != nil {
			return err
		}
		if err := w.store.Finish(ctx, c.entry.ID, c.entry.ManifestDigest, w.now()); err != nil {
			return err
		}
		w.log.InfoContext(ctx, "attestation attached", slog.String("image", ref.String()),
			slog.String("predicate_type", c.entry.PredicateType), slog.String("manifest", c.entry.ManifestDigest),
			slog.String("outcome", c.outcome))
		return nil
	})
}

// each does something with each claim, some at a time, until one fails.
func each(ctx context.Context, claims []*claim, do func(ctx context.Context, c *claim) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, c := range claims {
		g.Go(func() error {
			if err := do(ctx, c); err != nil {
				return fmt.Errorf("%s: %w", c.entry.PredicateType, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// put writes a claim's attestation to the registry.
func (w *Writer) put(ctx context.Context, ref imageref.Ref, subject registry.Descriptor, c *claim) error {
	if c.entry.Bundle == nil {
		var err error
		if c.entry, err = w.store.Get(ctx, c.entry.ID); err != nil {
			return err
		}
	}
	d, err := attest.Put(ctx, w.registry, ref, subject, c.entry.Bundle, c.entry.PredicateType, c.entry.SignTime)
	if err != nil {
		return err
	}
	c.entry.ManifestDigest = d.Digest
	return w.attachLegacy(ctx, ref, c.entry)
}
