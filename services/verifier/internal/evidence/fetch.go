package evidence

import (
	"context"
	"errors"
	"fmt"
	"time"

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
func (c *Collector) fetch(ctx context.Context, ref imageref.Ref, read reading, predicateTypes ...string) (referred []attest.Referred, done func(), err error) {
	// At least one, because zero stands for the default.
	most := max(1, min(c.perManifest(), read.budget.manifests))
	defer func() { read.budget.manifests -= len(referred) }()
	full := attest.Limits{
		// Summaries of verdicts are what comes out of here; images have many.
		First: read.first, WithoutTypes: []string{attest.PredicateVSA},
		MaxReferrers: most, MaxBundle: c.limits.MaxAttestation, MaxTotal: c.limits.MaxTotal, PredicateTypes: predicateTypes,
		Partial: true, Stop: func() bool { return c.now().After(read.budget.until) },
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

// manifestsPerImage times the limit of one manifest is how many attestations are read of
// one image. An index of many platforms, each with as many as one may have, would keep a
// replica busy for longer than any event may take.
const manifestsPerImage = 4

// timePerImage is how long attestations of one image are read. A registry that answers
// slowly would otherwise hold a handler for longer than any event may take.
const timePerImage = 2 * time.Minute

// reading says how to read the attestations of one manifest.
type reading struct {
	// first are those that are read however many there are and however long it takes.
	first []string
	// budget is what is left of the image's.
	budget *budget
}

// budget bounds what is read of one image.
type budget struct {
	manifests int
	until     time.Time
}

func (c *Collector) perManifest() int {
	if c.limits.MaxAttestations == 0 {
		return attest.DefaultMaxReferrers
	}
	return c.limits.MaxAttestations
}

func (c *Collector) perImage() *budget {
	return &budget{manifests: manifestsPerImage * c.perManifest(), until: c.now().Add(timePerImage)}
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
