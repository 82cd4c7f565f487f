package consumer

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

// findingKey is a finding over several reports.
type findingKey struct{ id, purl, location string }

// firstSeen tells findings that an earlier verdict of the image was made of when that
// was, and the others that it is now. It comes out of the recorded evidence and goes
// into it, so that a verdict made again is the same.
func (e *Evaluator) firstSeen(ctx context.Context, latest *store.Record, found evidence.Evidence, now time.Time) error {
	before, err := e.seen(ctx, latest)
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

// seen reads when the findings behind a verdict were first seen, by platform manifest.
func (e *Evaluator) seen(ctx context.Context, latest *store.Record) (map[string]map[findingKey]time.Time, error) {
	v, err := e.Recorder.restsOn(ctx, latest)
	if err != nil {
		return nil, err
	}
	out := map[string]map[findingKey]time.Time{}
	for _, p := range v.GetPlatforms() {
		digest := p.GetInputs().GetEvidenceDigest()
		if digest == "" {
			continue
		}
		d, err := e.Recorder.Store.Document(ctx, digest)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		recorded, err := record.ReadEvidence(d, 0)
		if err != nil || recorded.Report == nil {
			continue // what cannot be read was never seen
		}
		out[p.GetDigest()] = seenIn(recorded.Report, v.GetEvaluateTime().AsTime())
	}
	return out, nil
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
