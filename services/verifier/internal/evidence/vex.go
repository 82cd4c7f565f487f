package evidence

import (
	"errors"
	"fmt"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
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
