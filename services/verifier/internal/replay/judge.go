// Package replay makes verdicts together with the record of what they were made
// from, and makes them again from that record.
package replay

import (
	"context"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
)

// Rules are what images are judged by at a time.
type Rules struct {
	Policies []policy.Policy
}

// Judged is a verdict with the documents that it can be made again from.
type Judged struct {
	Verdict   core.Verdict
	Documents []record.Document
}

// Judge makes the verdict of an image and records its inputs.
func Judge(ctx context.Context, image imageref.Ref, platforms []core.PlatformEvidence, rules Rules, now time.Time) (Judged, error) {
	v, err := core.Judge(ctx, core.Input{Image: image, Platforms: platforms, Policies: policy.Core(rules.Policies), Now: now})
	if err != nil {
		return Judged{}, err
	}
	out := Judged{Verdict: v}
	used := map[string]bool{}
	for i := range platforms {
		d, err := record.PackEvidence(platforms[i])
		if err != nil {
			return Judged{}, err
		}
		out.Verdict.Platforms[i].Inputs.EvidenceDigest = d.Digest
		out.Documents = append(out.Documents, d)
		for _, p := range v.Platforms[i].Inputs.PolicyDigests {
			used[p] = true
		}
	}
	for i := range rules.Policies {
		p := &rules.Policies[i]
		if !used[p.Digest] {
			continue
		}
		d, err := record.Pack([]byte(p.Document))
		if err != nil {
			return Judged{}, err
		}
		out.Documents = append(out.Documents, d)
	}
	return out, nil
}
