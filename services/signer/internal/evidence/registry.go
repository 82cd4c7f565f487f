package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// listed returns the attestations that refer to ref, by digest; what is found of until
// ends the search. Nothing is known of them if the referrers tag is broken: then none
// counts as listed, and what is in force is attached again, which repairs the tag.
func (w *Writer) listed(ctx context.Context, ref imageref.Ref, until ...string) (map[string]registry.Descriptor, error) {
	all, err := w.registry.Referrers(ctx, ref, registry.Filter{ArtifactType: attest.BundleMediaType, Keep: attest.MayBeBundle, Until: until})
	if err != nil && !errors.Is(err, registry.ErrReferrersTag) {
		return nil, fmt.Errorf("list attestations: %w", err)
	}
	out := make(map[string]registry.Descriptor, len(all.Referrers))
	for _, d := range all.Referrers {
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
	layer, err := layerOf(raw)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNotReadBack, e.ManifestDigest, err)
	}
	// The manifest is the one that was written down, says its digest, and thus the
	// layer is the one that was signed.
	blob, err := w.registry.Blob(ctx, repo, layer)
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

// layerOf is the one layer of the manifest of a bundle.
func layerOf(manifest []byte) (registry.Descriptor, error) {
	var m struct {
		Layers []registry.Descriptor `json:"layers"`
	}
	if err := strictjson.Unmarshal(manifest, &m); err != nil || len(m.Layers) != 1 {
		return registry.Descriptor{}, errors.New("it is not the manifest of a bundle")
	}
	return m.Layers[0], nil
}
