package evidence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// listed returns all that refers to ref, by digest.
func (w *Writer) listed(ctx context.Context, ref imageref.Ref) (map[string]registry.Descriptor, error) {
	all, err := w.registry.Referrers(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("list attestations: %w", err)
	}
	out := make(map[string]registry.Descriptor, len(all))
	for _, d := range all {
		out[d.Digest] = d
	}
	return out, nil
}

// Children returns the digests and media types of the manifests that the index
// that ref names by digest lists. It is ErrNoSubject if there is no such index.
func (w *Writer) Children(ctx context.Context, ref imageref.Ref) (map[string]string, error) {
	_, raw, err := w.registry.Manifest(ctx, imageref.Ref{Registry: ref.Registry, Repository: ref.Repository, Digest: ref.Digest})
	if errors.Is(err, registry.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", ErrNoSubject, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	return core.ManifestsOf(raw)
}

// there says whether a referrer can be found and exists: some registries list
// referrers that were deleted.
func (w *Writer) there(ctx context.Context, ref imageref.Ref, manifest string, listed map[string]registry.Descriptor) (bool, error) {
	if _, ok := listed[manifest]; !ok {
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
func (w *Writer) readBack(ctx context.Context, ref imageref.Ref, e store.Entry, listed map[string]registry.Descriptor) error {
	if _, ok := listed[e.ManifestDigest]; !ok {
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
	if l := m.Layers[0]; l.Digest != registry.Digest(e.Bundle) || l.Size != int64(len(e.Bundle)) {
		return fmt.Errorf("%w: %s holds another bundle", ErrNotReadBack, e.ManifestDigest)
	}
	blob, err := w.registry.Blob(ctx, repo, m.Layers[0])
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	defer blob.Close()
	// The reader compares with the digest; the bytes need not be kept.
	if _, err := io.Copy(io.Discard, blob); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	return nil
}

// adopt writes into the log what this signer attached and the log does not know,
// because it was lost or is an older copy, and says whether there was any. It
// keeps an image at one attestation in force then.
func (w *Writer) adopt(ctx context.Context, t turn, p core.Predicate) (bool, error) {
	known, err := w.store.Known(ctx, t.line)
	if err != nil {
		return false, err
	}
	news := false
	for digest, d := range t.listed {
		claimed, said := d.Annotations[attest.AnnotationPredicateType]
		news = news || !known[digest] && (!said || claimed == p.Type)
	}
	if !news {
		return false, nil
	}
	found, err := attest.Fetch(ctx, w.registry, t.ref, attest.Limits{PredicateTypes: []string{p.Type}})
	if errors.Is(err, attest.ErrTooLarge) || errors.Is(err, registry.ErrTooLarge) {
		// Somebody attached so much that it cannot be searched. One attestation
		// too many is better than none.
		w.log.WarnContext(ctx, "too many attestations to look for an earlier one",
			slog.String("image", t.ref.String()), slog.Any("error", err))
		return false, nil
	}
	if err != nil {
		return false, err
	}
	roots := t.trusted
	roots.At = w.now()
	adopted := false
	for _, r := range found {
		if known[r.Digest] {
			continue
		}
		v, err := r.Verify(t.ref.Digest, roots)
		if err != nil {
			if registry.Temporary(err) {
				return false, fmt.Errorf("look for an earlier attestation: %w", err)
			}
			continue // of others, or broken: not ours to judge
		}
		if v.PredicateType != p.Type {
			continue
		}
		payload, err := attest.MarshalStatement(v.Statement)
		if err != nil {
			continue // not written by this program
		}
		if err := w.remember(ctx, t.line, p, r, v, payload); err != nil {
			return false, err
		}
		adopted = true
	}
	return adopted, nil
}

// remember makes a log entry of an attestation that was found.
func (w *Writer) remember(ctx context.Context, line store.Line, p core.Predicate, r attest.Referred, v *attest.Verified, payload []byte) error {
	e := store.Entry{
		Key:   store.Key{Line: line, ContentKey: core.Digest(payload)},
		KeyID: v.KeyID, ContentDigest: core.Digest(payload), Bundle: r.Bundle,
		SignTime: v.CreateTime, ClaimTime: attest.StatedTime(v.Statement), ManifestDigest: r.Digest,
		LogIndex: v.LogIndex, ProvenTime: v.SignTime,
	}
	if core.SameContent(p.Type, v.Predicate, p.JSON) {
		e.ContentKey = p.ContentKey
	}
	if e.SignTime.IsZero() {
		e.SignTime = w.now().UTC().Truncate(time.Second)
	}
	if e.ClaimTime.IsZero() {
		e.ClaimTime = e.SignTime
	}
	e.ID = store.ID(e.Key, e.ClaimTime, r.Digest)
	if _, err := w.store.Begin(ctx, e, func(store.Entry) bool { return false }); err != nil {
		return err
	}
	return w.store.Finish(ctx, e.ID, r.Digest, w.now())
}
