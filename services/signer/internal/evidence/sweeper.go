package evidence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// Sweeper deletes what was superseded from its registry. It knows what that is
// from the signing log alone, so it never touches what others attached.
type Sweeper struct {
	Store    store.Store
	Registry *registry.Client
	// Grace is how long an attestation stays after it was superseded: verdicts
	// may still name it, and readers may be about to read it.
	Grace time.Duration
	// Interval is the time between two rounds; each is spread by a fifth.
	Interval time.Duration
	// Keep names registries on which nothing is deleted.
	Keep []string
	Log  *slog.Logger
	Now  func() time.Time
}

const sweepPage = 100

// Run sweeps until ctx ends. Failures are logged and tried again in the next round.
func (s *Sweeper) Run(ctx context.Context) error {
	for {
		wait := s.Interval - s.Interval/10 + rand.N(s.Interval/5+1) //nolint:gosec // spreads load, guards nothing
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if deleted, err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "superseded attestations not all deleted", slog.Int("deleted", deleted), slog.Any("error", err))
		}
	}
}

// Sweep deletes what was superseded more than Grace ago and says how many that
// were. A registry that fails is left alone until the next round; the error is of
// all that failed.
func (s *Sweeper) Sweep(ctx context.Context) (deleted int, err error) {
	before := s.Now().Add(-s.Grace)
	failed := map[string]bool{}
	var errs []error
	for after := ""; ; {
		page, err := s.Store.Superseded(ctx, before, after, sweepPage)
		if err != nil {
			return deleted, errors.Join(append(errs, err)...)
		}
		for _, e := range page {
			after = e.ID
			if slices.Contains(s.Keep, e.Registry) || failed[e.Registry] || !s.Registry.Allowed(e.Registry) {
				continue
			}
			removal, err := s.remove(ctx, e)
			if err == nil {
				err = s.Store.SetRemoval(ctx, e.ID, removal)
			}
			if err != nil {
				failed[e.Registry] = true
				errs = append(errs, err)
				continue
			}
			if removal == store.Deleted {
				deleted++
			}
		}
		if len(page) < sweepPage || ctx.Err() != nil {
			return deleted, errors.Join(errs...)
		}
	}
}

func (s *Sweeper) remove(ctx context.Context, e store.Entry) (store.Removal, error) {
	ref := imageref.Ref{Registry: e.Registry, Repository: e.Repository, Digest: e.SubjectDigest}
	err := s.Registry.DeleteReferrer(ctx, ref, e.ManifestDigest)
	switch {
	case errors.Is(err, registry.ErrNoDeletes):
		s.Log.InfoContext(ctx, "the registry does not delete: a superseded attestation stays; "+
			"name it in lifetime.keep_registries to say so", slog.String("registry", e.Registry), slog.String("manifest", e.ManifestDigest))
		return store.Kept, nil
	case errors.Is(err, registry.ErrUnauthorized):
		return store.Pending, fmt.Errorf("delete superseded attestation %s: %w: give the signer credentials that may delete, "+
			"or name the registry in lifetime.keep_registries", e.ManifestDigest, err)
	case err != nil:
		return store.Pending, fmt.Errorf("delete superseded attestation %s: %w", e.ManifestDigest, err)
	}
	s.Log.InfoContext(ctx, "superseded attestation deleted", slog.String("image", ref.String()),
		slog.String("predicate_type", e.PredicateType), slog.String("manifest", e.ManifestDigest))
	return store.Deleted, nil
}
