package evidence

import (
	"errors"
	"fmt"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/vex"
)

// vexRoots marks verifications against the authors of VEX documents in the cache:
// they do not change while the process runs.
const vexRoots = ^uint64(0)

// vexOf looks whether an attestation is a VEX document of a trusted author. It
// returns nil for everything else, also for what the signer made of our own
// exceptions. A document of an author that cannot be read is a finding and rejected: it
// may take back what the author said before.
func (c *Collector) vexOf(r *attest.Referred, subject string) *finding {
	if len(c.authors) == 0 || r.Err != nil {
		return nil
	}
	if st, err := attest.Untrusted(r.Bundle); err == nil && st.PredicateType != attest.PredicateOpenVEX {
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
	if unreadable, ok := errors.AsType[*attest.UnreadableError](err); ok && unreadable.PredicateType == attest.PredicateOpenVEX {
		f := unreadableVex(r.Digest, author, unreadable.KeyID, unreadable.SignTime, err)
		c.cache.Put(key, f, 1024)
		return f
	}
	if err != nil {
		return nil
	}
	d, err := vex.Parse(v.Predicate)
	if err != nil {
		at := v.SignTime
		if at.IsZero() {
			at = v.LatestTime
		}
		f := unreadableVex(r.Digest, author, v.KeyID, at, err)
		c.cache.Put(key, f, 1024)
		return f
	}
	d.NotAfter(v.SignTime)
	f := &finding{
		predicateType: v.PredicateType, stated: v.StatedTime,
		attestation: core.Attestation{PredicateType: v.PredicateType, ManifestDigest: r.Digest, KeyID: v.KeyID},
		vex: &core.VexDocument{
			Digest: r.Digest, Author: author, Attached: true, KeyID: v.KeyID, DocumentTime: d.Time, Statements: d.Statements,
		},
	}
	c.cache.Put(key, f, 512+2*int64(len(v.Predicate)))
	return f
}

// unreadableVex is an author's document that cannot be read. It takes back what the author
// said until then: until the proven time of its signature, or else the latest time in it.
// If neither is known, at is zero and nothing that the author says counts.
func unreadableVex(digest, author, keyID string, at time.Time, err error) *finding {
	why := core.Truncate(fmt.Sprintf("%s: %v", short(digest), err))
	return &finding{
		predicateType: attest.PredicateOpenVEX, rejected: why,
		attestation: core.Attestation{PredicateType: attest.PredicateOpenVEX, ManifestDigest: digest, KeyID: keyID, SignTime: at},
		vex: &core.VexDocument{
			Digest: digest, Author: author, Attached: true, KeyID: keyID, DocumentTime: at, Unreadable: why,
		},
	}
}
