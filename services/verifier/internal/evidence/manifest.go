package evidence

import (
	"context"
	"fmt"

	"github.com/seaworthy-dev/seaworthy/pkg/artifact"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// MaxPlatforms of one index.
const MaxPlatforms = 64

// unknown is the operating system and architecture of what is not an image, so they say.
const unknown = "unknown"

// target is one manifest that needs evidence.
type target struct {
	digest   string
	platform core.Platform
	// claim is set for an entry of an index without a platform, or with an unknown one.
	claim bool
	// bare is set for a claim that names no platform at all. A runtime that finds none of
	// its own platform may take it.
	bare bool
}

// strictest is what an entry of an index needs that is named twice, with different
// platforms: a runtime may choose it by either.
func (t target) strictest(other target) target {
	switch {
	case t.claim && !other.claim:
		return other
	case t.claim && other.bare:
		t.bare = true
	}
	return t
}

// targets lists the manifests of an image that a runtime could start, and those of an
// index whose own content has to tell whether one could: claim is set for them.
func targets(image imageref.Ref, d registry.Descriptor, raw []byte) ([]target, error) {
	switch d.MediaType {
	case registry.MediaTypeOCIManifest, registry.MediaTypeDockerManifest:
		return []target{{digest: image.Digest}}, nil
	case registry.MediaTypeOCIIndex, registry.MediaTypeDockerList:
	default:
		return nil, fmt.Errorf("%w: it has the media type %.100q", ErrNotAnImage, d.MediaType)
	}
	var index struct {
		Manifests []registry.Descriptor `json:"manifests"`
	}
	if err := strictjson.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("%w: its index cannot be read: %w", ErrNotAnImage, err)
	}
	var out []target
	var platforms, claims int
	seen := map[string]int{}
	for _, m := range index.Manifests {
		t := target{digest: m.Digest, claim: true, bare: m.Platform == nil}
		if p := m.Platform; p != nil {
			t.platform = core.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
			t.claim = p.OS == unknown || p.Architecture == unknown
		}
		if err := imageref.CheckDigest(m.Digest); err != nil {
			return nil, fmt.Errorf("%w: its index names a malformed digest", ErrNotAnImage)
		}
		if i, ok := seen[m.Digest]; ok {
			out[i] = out[i].strictest(t)
			continue
		}
		seen[m.Digest] = len(out)
		count := &platforms
		if t.claim {
			count = &claims
		}
		if *count++; *count > MaxPlatforms {
			return nil, fmt.Errorf("%w: its index has more than %d platforms", ErrNotAnImage, MaxPlatforms)
		}
		out = append(out, t)
	}
	return out, nil
}

// images leaves out what is evidence, or another artifact that no runtime runs, by its
// own content. Builders put attestations into an index and give them the platform
// unknown/unknown; an index can say that of an image too. Whatever is called by a real
// platform needs evidence: a runtime would choose it. What names no platform needs it if
// any runtime could run it.
func (c *Collector) images(ctx context.Context, image imageref.Ref, all []target) ([]target, error) {
	out := make([]target, 0, len(all))
	for _, t := range all {
		if t.claim {
			_, raw, err := c.client.Manifest(ctx, image.WithDigest(t.digest))
			if err != nil {
				return nil, fmt.Errorf("manifest %s of its index: %w", t.digest, lasting(err))
			}
			kind, err := artifact.KindOf(raw)
			runnable := kind == artifact.Image
			if err == nil && t.bare {
				runnable, err = artifact.MayRun(raw)
			}
			if err != nil {
				return nil, fmt.Errorf("%w: %s of its index: %w", ErrNotAnImage, t.digest, err)
			}
			if !runnable {
				continue
			}
		}
		out = append(out, t)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: its index has no image", ErrNotAnImage)
	}
	return out, nil
}
