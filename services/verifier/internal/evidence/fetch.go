package evidence

import (
	"context"
	"errors"
	"fmt"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

// usualTotal is what the attestations of a manifest may take without waiting for
// others, in bytes. All but the largest images need less.
const usualTotal = 32 << 20

// fetch reads the attestations of a manifest. The most that may be read is much more
// than what is usual, and several manifests are read at a time: one that needs more
// than usual waits until no other one does, so that the limit holds for all together.
// The caller calls done when it no longer needs what was read.
func (c *Collector) fetch(ctx context.Context, ref imageref.Ref, predicateTypes ...string) (referred []attest.Referred, done func(), err error) {
	full := attest.Limits{
		MaxReferrers: c.limits.MaxAttestations, MaxBundle: c.limits.MaxAttestation, MaxTotal: c.limits.MaxTotal, PredicateTypes: predicateTypes,
		Partial: true,
	}
	usual := full
	usual.MaxTotal = least(full.MaxTotal, c.usual)
	usual.MaxBundle = least(full.MaxBundle, c.usual)
	referred, err = attest.Fetch(ctx, c.client, ref, usual)
	if err != nil || usual.MaxTotal == full.MaxTotal || !anyMayFit(referred, full.MaxBundle) {
		return referred, func() {}, err
	}
	select {
	case c.large <- struct{}{}:
		done = func() { <-c.large }
	case <-ctx.Done():
		return nil, func() {}, fmt.Errorf("read attestations of %s: %w", ref.Digest, context.Cause(ctx))
	}
	referred, err = attest.Fetch(ctx, c.client, ref, full)
	return referred, done, err
}

// least takes a limit of zero for that of package attest.
func least(limit, usual int64) int64 {
	if limit == 0 {
		return usual
	}
	return min(limit, usual)
}

// anyMayFit says whether one that was too large would be read with the limit. What is
// larger than any limit must not have an image wait and be read twice each time.
func anyMayFit(all []attest.Referred, limit int64) bool {
	if limit == 0 {
		limit = attest.MaxBundle
	}
	for i := range all {
		if errors.Is(all[i].Err, attest.ErrTooLarge) && all[i].BundleSize <= limit {
			return true
		}
	}
	return false
}
