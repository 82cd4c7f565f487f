package evidence

import (
	"encoding/json"
	"fmt"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// MaxPlatforms of one index.
const MaxPlatforms = 64

// target is one manifest that needs evidence.
type target struct {
	digest   string
	platform core.Platform
}

// targets lists the manifests of an image that a runtime could start.
//
// Of an index only entries with the platform unknown/unknown are left out, which
// is how builders mark their own attestations and which no runtime chooses.
// Whatever else an entry claims to be, it needs evidence: an entry that calls
// itself an artifact could still be pulled by its platform.
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
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("%w: its index cannot be read: %w", ErrNotAnImage, err)
	}
	var out []target
	seen := map[string]bool{}
	for _, m := range index.Manifests {
		t := target{digest: m.Digest}
		if p := m.Platform; p != nil {
			if p.OS == "unknown" && p.Architecture == "unknown" {
				continue
			}
			t.platform = core.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
		}
		if err := imageref.CheckDigest(m.Digest); err != nil {
			return nil, fmt.Errorf("%w: its index names a malformed digest", ErrNotAnImage)
		}
		if seen[m.Digest] {
			continue
		}
		seen[m.Digest] = true
		if out = append(out, t); len(out) > MaxPlatforms {
			return nil, fmt.Errorf("%w: its index has more than %d platforms", ErrNotAnImage, MaxPlatforms)
		}
	}
	return out, nil
}
