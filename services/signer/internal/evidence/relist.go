package evidence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// maxRelisted bounds what is listed again when a referrers tag is written. An image has
// one attestation in force for each predicate type and identity.
const maxRelisted = 48

// lost returns how the attestations of an image are listed that the log has in force and
// the referrers tag no longer lists: somebody overwrote or deleted it. They are listed
// again with those of the claims, also if no claim is made of them now.
func (w *Writer) lost(ctx context.Context, im *image, claims []*claim) ([]registry.Descriptor, error) {
	q := store.Query{SubjectDigest: im.ref.Digest, Registry: im.ref.Registry, Repository: im.ref.Repository, Limit: 4 * maxRelisted}
	entries, err := w.store.List(ctx, q)
	if err != nil {
		return nil, err
	}
	var out []registry.Descriptor
	for _, e := range entries {
		_, listed := im.listed[e.ManifestDigest]
		claimed := slices.ContainsFunc(claims, func(c *claim) bool { return c.line == e.Line })
		if listed || claimed || !e.SupersededTime.IsZero() || len(out) == maxRelisted {
			continue
		}
		d, raw, err := w.registry.Manifest(ctx, im.ref.WithDigest(e.ManifestDigest))
		if errors.Is(err, registry.ErrNotFound) {
			continue // attached again with its next claim
		}
		if err != nil {
			return nil, fmt.Errorf("attestation in force: %w", err)
		}
		var m struct {
			Annotations map[string]string `json:"annotations"`
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, fmt.Errorf("attestation in force: %w", err)
		}
		w.log.WarnContext(ctx, "attestation missing in the referrers tag; adding it again",
			imageAttr(im.ref), typeAttr(e.PredicateType), slog.String("manifest", e.ManifestDigest))
		d.Annotations = m.Annotations
		out = append(out, d)
	}
	return out, nil
}
