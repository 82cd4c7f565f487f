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
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/vex"
)

// vexRoots marks verifications against the authors of VEX documents in the cache:
// they do not change while the process runs.
const vexRoots = ^uint64(0)

// vexOf looks whether an attestation is a VEX document of a trusted author. It
// returns nil for everything else, also for what the signer made of our own
// exceptions; and a rejected finding for an author's document that cannot be read.
func (c *Collector) vexOf(r *attest.Referred, subject string) *finding {
	if len(c.authors) == 0 || r.Err != nil || claimedType(r) != attest.PredicateOpenVEX {
		return nil
	}
	key := cacheKey{manifest: r.Digest, subject: subject, roots: vexRoots}
	if f, ok := c.cache.Get(key); ok && (f.vex == nil || c.authors.Believes(*f.vex, c.now())) {
		return f
	}
	v, author, err := c.authors.Verify(r.Bundle, subject, c.now())
	if errors.Is(err, attest.ErrFuture) {
		return &finding{
			predicateType: attest.PredicateOpenVEX, attestation: core.Attestation{ManifestDigest: r.Digest},
			rejected: fmt.Sprintf("%s: %v", short(r.Digest), err),
		}
	}
	if err != nil {
		return nil
	}
	f := &finding{
		predicateType: v.PredicateType, stated: v.StatedTime,
		attestation: core.Attestation{PredicateType: v.PredicateType, ManifestDigest: r.Digest, KeyID: v.KeyID},
	}
	d, err := vex.Parse(v.Predicate)
	d.NotAfter(v.SignTime)
	if err != nil {
		f.rejected = fmt.Sprintf("%s: VEX of %s: %v", short(r.Digest), author, err)
	} else {
		f.vex = &core.VexDocument{
			Digest: r.Digest, Author: author, Attached: true, KeyID: v.KeyID, DocumentTime: d.Time, Statements: d.Statements,
		}
	}
	c.cache.Put(key, f, 512+2*int64(len(v.Predicate)))
	return f
}

// indexVex adds the VEX documents that are attached to an index to each of its
// manifests.
func (c *Collector) indexVex(ctx context.Context, image imageref.Ref, all []target, found Evidence) error {
	if len(c.authors) == 0 || len(all) == 0 || len(all) == 1 && all[0].digest == image.Digest {
		return nil
	}
	referred, done, err := c.fetch(ctx, image, reading{}, attest.PredicateOpenVEX)
	defer done()
	switch {
	case err == nil, errors.Is(err, registry.ErrNotFound):
	case errors.Is(err, attest.ErrTooLarge), errors.Is(err, registry.ErrTooLarge), errors.Is(err, registry.ErrMalformed):
		// Part of the documents could be without the newest one: then none counts.
		return nil
	default:
		return lasting(err)
	}
	if slices.ContainsFunc(referred, func(r attest.Referred) bool { return errors.Is(r.Err, attest.ErrIncomplete) }) {
		return nil
	}
	for i := range referred {
		if referred[i].Err != nil && registry.Temporary(referred[i].Err) {
			return fmt.Errorf("read attestation %s: %w", referred[i].Digest, referred[i].Err)
		}
		f := c.vexOf(&referred[i], image.Digest)
		if f == nil || f.vex == nil {
			continue
		}
		for n := range found.Platforms {
			found.Platforms[n].VEX = append(found.Platforms[n].VEX, *f.vex)
		}
	}
	return nil
}
