package evidence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// atOnce is how many attestations of one image are on their way at a time.
const atOnce = 4

// attach attaches what has to be, reads it back and marks it as done, all in one
// transaction.
func (w *Writer) attach(ctx context.Context, im *image, work []*claim) error {
	var todo []*claim
	for _, c := range work {
		if c.attach {
			todo = append(todo, c)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	if err := each(ctx, todo, func(ctx context.Context, c *claim) error { return w.put(ctx, im, c) }); err != nil {
		return err
	}
	if err := w.list(ctx, im, todo); err != nil {
		return err
	}
	listed, err := w.findAll(ctx, im, todo)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var done []*claim
	failure := each(ctx, todo, func(ctx context.Context, c *claim) error {
		if err := w.readBack(ctx, im.ref, c.entry, listed); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		done = append(done, c)
		return nil
	})
	return errors.Join(failure, w.finish(ctx, im, done))
}

// finish records what was read back.
func (w *Writer) finish(ctx context.Context, im *image, claims []*claim) error {
	if len(claims) == 0 {
		return nil
	}
	done := make([]store.Finished, len(claims))
	for i, c := range claims {
		done[i] = store.Finished{ID: c.entry.ID, ManifestDigest: c.entry.ManifestDigest}
	}
	if err := w.store.Finish(ctx, done, w.now()); err != nil {
		return err
	}
	for _, c := range claims {
		w.log.InfoContext(ctx, "attestation attached", imageAttr(im.ref), typeAttr(c.entry.PredicateType),
			slog.String("manifest", c.entry.ManifestDigest), slog.String("outcome", c.outcome))
	}
	return nil
}

func imageAttr(ref imageref.Ref) slog.Attr { return slog.String("image", ref.String()) }

func typeAttr(predicateType string) slog.Attr { return slog.String("predicate_type", predicateType) }

// each does something with each claim, some at a time, until one fails. What is under
// way then is let finish: a call that a circuit lets through to see whether a service is
// back must not end because the others were turned away.
func each(ctx context.Context, claims []*claim, do func(ctx context.Context, c *claim) error) error {
	var g errgroup.Group
	g.SetLimit(atOnce)
	var failed atomic.Bool
	for _, c := range claims {
		g.Go(func() error {
			if failed.Load() {
				return nil
			}
			if err := do(ctx, c); err != nil {
				failed.Store(true)
				return fmt.Errorf("%s: %w", c.p.Type, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// put writes a claim's manifest to the registry, which then has its bundle already.
func (w *Writer) put(ctx context.Context, im *image, c *claim) error {
	if c.bundle == nil {
		if err := w.recall(ctx, im, c); err != nil {
			return err
		}
	}
	d, listed, err := w.registry.PutReferrerManifest(ctx, im.ref, c.entry.Manifest)
	if registry.BlobUnknown(err) {
		// Collected as garbage at this very moment.
		if err := w.renew(ctx, im, c); err != nil {
			return err
		}
		d, listed, err = w.registry.PutReferrerManifest(ctx, im.ref, c.entry.Manifest)
	}
	if err != nil {
		return fmt.Errorf("attach attestation: %w", err)
	}
	c.entry.ManifestDigest, c.attached = d.Digest, d
	if !listed {
		c.unlisted = &c.attached
	}
	return w.attachLegacy(ctx, im.ref, c)
}

// findAll returns what is listed. What the registry said it would list, and does not, is
// listed in the tag.
func (w *Writer) findAll(ctx context.Context, im *image, claims []*claim) (map[string]registry.Descriptor, error) {
	digests := make([]string, len(claims))
	for i, c := range claims {
		digests[i] = c.entry.ManifestDigest
	}
	listed, err := w.listed(ctx, im.ref, digests...)
	if err != nil {
		return nil, err
	}
	said := false
	for _, c := range claims {
		if _, ok := listed[c.entry.ManifestDigest]; !ok && c.unlisted == nil {
			c.unlisted, said = &c.attached, true
		}
	}
	if !said {
		return listed, nil
	}
	w.log.WarnContext(ctx, "registry claims to list attestations but does not; listing them in the referrers tag", imageAttr(im.ref))
	if err := w.list(ctx, im, claims); err != nil {
		return nil, err
	}
	return w.listed(ctx, im.ref, digests...)
}

// list lists what the registry does not list by itself, all of an image at once.
func (w *Writer) list(ctx context.Context, im *image, claims []*claim) error {
	var unlisted []registry.Descriptor
	for _, c := range claims {
		if c.unlisted != nil {
			unlisted = append(unlisted, *c.unlisted)
		}
	}
	if len(unlisted) == 0 {
		return nil
	}
	others, err := w.lost(ctx, im, claims)
	if err != nil {
		return err
	}
	listing, err := w.registry.ListReferrers(ctx, im.ref, append(others, unlisted...)...)
	if err != nil {
		return fmt.Errorf("list attestations: %w", err)
	}
	if err := eventbus.Idle(ctx, func() error { return listing.Settle(ctx) }); err != nil {
		return fmt.Errorf("list attestations: %w", err)
	}
	return nil
}
