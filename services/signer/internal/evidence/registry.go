package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// listed returns the digests of all that refers to ref.
func (w *Writer) listed(ctx context.Context, ref imageref.Ref) (map[string]bool, error) {
	all, err := w.registry.Referrers(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("list attestations: %w", err)
	}
	out := make(map[string]bool, len(all))
	for _, d := range all {
		out[d.Digest] = true
	}
	return out, nil
}

// there says whether a referrer can be found and exists: some registries list
// referrers that were deleted.
func (w *Writer) there(ctx context.Context, ref imageref.Ref, manifest string, listed map[string]bool) (bool, error) {
	if !listed[manifest] {
		return false, nil
	}
	_, err := w.registry.Resolve(ctx, ref.WithDigest(manifest))
	if errors.Is(err, registry.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the attestation: %w", err)
	}
	return true, nil
}

// readBack checks that a reader finds the attestation and gets its very bytes.
func (w *Writer) readBack(ctx context.Context, ref imageref.Ref, e store.Entry, listed map[string]bool) error {
	if !listed[e.ManifestDigest] {
		return fmt.Errorf("%w: %s is not among the referrers", ErrNotReadBack, e.ManifestDigest)
	}
	repo := imageref.Ref{Registry: ref.Registry, Repository: ref.Repository}
	_, raw, err := w.registry.Manifest(ctx, repo.WithDigest(e.ManifestDigest))
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	var m struct {
		Layers []registry.Descriptor `json:"layers"`
	}
	if err := json.Unmarshal(raw, &m); err != nil || len(m.Layers) != 1 {
		return fmt.Errorf("%w: %s is not the manifest of a bundle", ErrNotReadBack, e.ManifestDigest)
	}
	bundle, err := w.registry.ReadBlob(ctx, repo, m.Layers[0], attest.MaxBundle)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if !bytes.Equal(bundle, e.Bundle) {
		return fmt.Errorf("%w: %s holds another bundle", ErrNotReadBack, e.ManifestDigest)
	}
	return nil
}

// find looks in the registry for an attestation that this key made of the same
// content. The outcome is "" if there is none. It keeps an image at one
// attestation when the log was lost.
func (w *Writer) find(ctx context.Context, ref imageref.Ref, key store.Key, p core.Predicate) (store.Entry, string, error) {
	found, err := attest.Fetch(ctx, w.registry, ref, attest.Limits{PredicateTypes: []string{p.Type}})
	if errors.Is(err, attest.ErrTooLarge) || errors.Is(err, registry.ErrTooLarge) {
		// Somebody attached so much that it cannot be searched. One attestation
		// too many is better than none.
		w.log.WarnContext(ctx, "too many attestations to look for an earlier one",
			slog.String("image", ref.String()), slog.Any("error", err))
		return store.Entry{}, "", nil
	}
	if err != nil {
		return store.Entry{}, "", err
	}
	roots := attest.TrustRoots{Keys: []attest.TrustedKey{{Key: w.key.Public(), ID: w.keyID}}}
	for _, r := range found {
		v, err := r.Verify(ref.Digest, roots)
		if err != nil {
			if registry.Temporary(err) {
				return store.Entry{}, "", fmt.Errorf("look for an earlier attestation: %w", err)
			}
			continue // of others, or broken: not ours to judge
		}
		if v.PredicateType != p.Type || !core.SameContent(p.Type, v.Predicate, p.JSON) {
			continue
		}
		payload, err := attest.MarshalStatement(v.Statement)
		if err != nil {
			continue // not written by this program
		}
		now := w.now().UTC().Truncate(time.Second)
		e := store.Entry{
			Key: key, ContentDigest: core.Digest(payload), KeyID: w.keyID, Bundle: r.Bundle,
			SignTime: v.CreateTime, ManifestDigest: r.Digest, DoneTime: now,
		}
		if e.SignTime.IsZero() {
			e.SignTime = now
		}
		return e, outcomeAdopted, nil
	}
	return store.Entry{}, "", nil
}
