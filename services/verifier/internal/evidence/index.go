package evidence

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// countsForPlatforms are the types of statements about an index that also hold for each
// of its manifests: how the whole was built, and what its vulnerabilities mean. A scan
// result or an SBOM describes the content of one manifest, so one about an index says
// nothing of any.
var countsForPlatforms = []string{
	attest.PredicateSLSAProvenance, "https://slsa.dev/provenance/v0.2", attest.PredicateOpenVEX,
}

// ofIndex is what the statements about an index say of its manifests.
type ofIndex struct {
	found []*finding
	vex   []core.VexDocument
	// unreadable says why the list cannot be read.
	unreadable error
	foreign    bool
}

// index reads what is attached to an index. It is empty for a single image.
func (c *Collector) index(ctx context.Context, image imageref.Ref, all []target, read reading, roots attest.TrustRoots, version uint64, present map[string]bool) (out ofIndex, err error) {
	if len(all) == 0 || len(all) == 1 && all[0].digest == image.Digest {
		return out, nil
	}
	referred, done, err := c.fetch(ctx, image, read, countsForPlatforms...)
	defer done()
	switch {
	case err == nil:
	case errors.Is(err, registry.ErrNotFound):
		return out, nil
	case errors.Is(err, attest.ErrTooLarge), errors.Is(err, registry.ErrTooLarge), errors.Is(err, registry.ErrMalformed):
		out.unreadable = err
		return out, nil
	default:
		return out, lasting(err)
	}
	for i := range referred {
		r := &referred[i]
		if errors.Is(r.Err, attest.ErrIncomplete) {
			out.unreadable = r.Err
			continue
		}
		f, err := c.verify(ctx, r, image.Digest, roots, version)
		if err != nil {
			return ofIndex{}, err
		}
		if r.Digest != "" && !errors.Is(r.Err, registry.ErrNotFound) { // listed, but gone
			present[r.Digest] = true
		}
		if d := c.vexOf(r, image.Digest); d != nil && (d.vex != nil || f.rejected != "") {
			if d.vex != nil {
				out.vex = append(out.vex, *d.vex)
			}
			if d.rejected == "" {
				continue
			}
			f = d
		}
		// The type is the signed one: the annotation that it was listed with is not.
		if f.ours || !slices.Contains(countsForPlatforms, f.predicateType) || f.predicateType == attest.PredicateOpenVEX && f.rejected == "" {
			continue
		}
		out.foreign = out.foreign || f.unknownKey
		out.found = append(out.found, f)
	}
	return out, nil
}

// addTo adds to a platform what the index says of it.
func (o *ofIndex) addTo(e *core.PlatformEvidence) {
	e.VEX = append(e.VEX, o.vex...)
	if o.unreadable == nil {
		return
	}
	e.Unread = core.Truncate("what is attached to the index: " + o.unreadable.Error())
	for _, t := range countsForPlatforms {
		e.Rejected = append(e.Rejected, core.Rejected{PredicateType: t, Why: fmt.Sprintf("what is attached to the index cannot be read: %v", o.unreadable)})
	}
}
