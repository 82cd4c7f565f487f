package consumer

import (
	"context"
	"errors"
	"slices"
	"time"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

// findingKey is a finding over several reports.
type findingKey struct{ id, purl, location string }

// firstSeen tells findings that the last report of the manifest had, among those that
// were judged, when they were first seen, and the others that it is now. It comes out of
// the recorded evidence and goes into it, so that a verdict made again is the same.
//
// An image that was without a report for a while, or deleted and pushed again, keeps the
// times: whoever may push must not be able to begin a period of grace anew.
func (e *Evaluator) firstSeen(ctx context.Context, latest *store.Record, found evidence.Evidence, now time.Time) error {
	wanted := map[string]bool{}
	for _, p := range found.Platforms {
		if p.Report != nil && len(p.Report.Findings) > 0 {
			wanted[p.Digest] = true
		}
	}
	before, err := e.seen(ctx, latest, wanted)
	if err != nil {
		return err
	}
	for i := range found.Platforms {
		p := &found.Platforms[i]
		if p.Report == nil || len(p.Report.Findings) == 0 {
			continue
		}
		// The report is shared with whoever verified it.
		report := *p.Report
		report.Findings = slices.Clone(report.Findings)
		for n := range report.Findings {
			f := &report.Findings[n]
			f.FirstSeen = now.UTC()
			if at, ok := before[p.Digest][findingKey{f.ID, f.Purl, f.Location}]; ok {
				f.FirstSeen = at
			}
		}
		p.Report = &report
	}
	return nil
}

// seen reads when the findings of platform manifests were first seen, out of the newest
// evidence of each that has a report.
func (e *Evaluator) seen(ctx context.Context, latest *store.Record, wanted map[string]bool) (map[string]map[findingKey]time.Time, error) {
	out := map[string]map[findingKey]time.Time{}
	read := map[string]bool{"": true}
	err := e.Recorder.earlier(ctx, latest, func(v *verifierv1.Verdict) (bool, error) {
		for _, p := range v.GetPlatforms() {
			digest := p.GetInputs().GetEvidenceDigest()
			if !wanted[p.GetDigest()] || out[p.GetDigest()] != nil || read[digest] {
				continue
			}
			read[digest] = true
			d, err := e.Recorder.Store.Document(ctx, digest)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return false, err
			}
			recorded, err := record.ReadEvidence(d, 0)
			if err != nil || recorded.Report == nil {
				continue // what cannot be read was never seen
			}
			out[p.GetDigest()] = seenIn(recorded.Report, v.GetEvaluateTime().AsTime())
		}
		return len(out) == len(wanted), nil
	})
	return out, err
}

// seenIn takes the time of the verdict where a release recorded none.
func seenIn(r *core.Report, judged time.Time) map[findingKey]time.Time {
	out := make(map[findingKey]time.Time, len(r.Findings))
	for i := range r.Findings {
		f := &r.Findings[i]
		at := f.FirstSeen
		if at.IsZero() {
			at = judged
		}
		out[findingKey{f.ID, f.Purl, f.Location}] = at.UTC()
	}
	return out
}
