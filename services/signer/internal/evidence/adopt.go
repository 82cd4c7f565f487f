package evidence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// Limits of what is looked through for earlier attestations, in bytes: bundles are
// verified in memory.
const (
	maxAdopted      = 16 << 20
	maxAdoptedTotal = 64 << 20
)

// adopt writes into the log what this signer attached and the log does not know,
// because it was lost or is an older copy, and says whether there was any. It
// keeps an image at one attestation in force then.
func (w *Writer) adopt(ctx context.Context, im *image, c *claim) (bool, error) {
	var candidates []string
	for digest, d := range im.listed {
		if claimed, said := d.Annotations[attest.AnnotationPredicateType]; !said || claimed == c.p.Type {
			candidates = append(candidates, digest)
		}
	}
	if len(candidates) == 0 {
		return false, nil
	}
	known, err := w.store.Known(ctx, c.line)
	if err != nil {
		return false, err
	}
	if !slices.ContainsFunc(candidates, func(digest string) bool { return !known[digest] }) {
		return false, nil
	}
	found, err := attest.Fetch(ctx, w.registry, im.ref, attest.Limits{
		PredicateTypes: []string{c.p.Type}, MaxBundle: maxAdopted, MaxTotal: maxAdoptedTotal,
	})
	if errors.Is(err, attest.ErrTooLarge) || errors.Is(err, attest.ErrIncomplete) || errors.Is(err, registry.ErrTooLarge) {
		// Somebody attached so much that it cannot be searched. One attestation
		// too many is better than none.
		w.log.WarnContext(ctx, "too many attestations to search for an earlier one",
			imageAttr(im.ref), slog.Any("error", err))
		return false, nil
	}
	if err != nil {
		return false, err
	}
	roots := c.trusted
	roots.At = w.now()
	adopted := false
	for _, r := range found {
		if known[r.Digest] {
			continue
		}
		v, err := r.Verify(im.ref.Digest, roots)
		if err != nil {
			if errors.Is(err, attest.ErrTooLarge) {
				w.log.WarnContext(ctx, "attestation too large to compare with earlier ones",
					imageAttr(im.ref), slog.String("manifest", r.Digest))
			}
			if registry.Temporary(err) {
				return false, fmt.Errorf("look for an earlier attestation: %w", err)
			}
			continue // of others, or broken: not ours to judge
		}
		if v.PredicateType != c.p.Type {
			continue
		}
		payload, err := attest.MarshalStatement(v.Statement)
		if err != nil {
			continue // not written by this program
		}
		if err := w.remember(ctx, c, r, v, payload); err != nil {
			return false, err
		}
		adopted = true
	}
	return adopted, nil
}

// remember makes a log entry of an attestation that was found.
func (w *Writer) remember(ctx context.Context, c *claim, r attest.Referred, v *attest.Verified, payload []byte) error {
	_, manifest, err := w.registry.Manifest(ctx, imageref.Ref{Registry: c.line.Registry, Repository: c.line.Repository, Digest: r.Digest})
	if err != nil {
		return fmt.Errorf("read its manifest: %w", err)
	}
	e := store.Entry{
		Key:   store.Key{Line: c.line, ContentKey: core.Digest(payload)},
		KeyID: v.KeyID, ContentDigest: core.Digest(payload), Manifest: manifest,
		SignTime: v.CreateTime, ClaimTime: attest.StatedTime(v.Statement), ManifestDigest: r.Digest,
		LogIndex: v.LogIndex, ProvenTime: v.SignTime,
	}
	if c.p.Says(v.Predicate) {
		e.ContentKey = c.p.ContentKey
	}
	if e.SignTime.IsZero() {
		e.SignTime = w.now().UTC().Truncate(time.Second)
	}
	if e.ClaimTime.IsZero() {
		e.ClaimTime = e.SignTime
	}
	e.ID = store.ID(e.Key, e.ClaimTime, r.Digest)
	if _, err := w.store.Begin(ctx, []store.Entry{e}, func(int, store.Entry) bool { return false }); err != nil {
		return err
	}
	return w.store.Finish(ctx, []store.Finished{{ID: e.ID, ManifestDigest: r.Digest}}, w.now())
}
