package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/replay"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/vex"
)

// Reasons of dead letters.
const (
	reasonMalformedEvent  = "MALFORMED_EVENT"
	reasonImageNotFound   = "IMAGE_NOT_FOUND"
	reasonNotAnImage      = "NOT_AN_IMAGE"
	reasonRegistryRefused = "REGISTRY_REFUSED"
)

// missingAttempts is how often an event is tried again because an attestation
// that it names is not in the registry's list yet.
const missingAttempts = 4

// errTrustDiffers lasts as long as a change of trust has not reached all replicas.
var errTrustDiffers = errors.New("this replica's trust roots are not those that images are judged by: " +
	"if it lasts, give all replicas the same trust and vex.authors configuration")

// Evaluator makes verdicts when an image was attested.
type Evaluator struct {
	Recorder *Recorder
	Evidence *evidence.Collector
	// Authors are those whose VEX documents count.
	Authors vex.Authors
	// Rules returns what images are judged by now.
	Rules func(context.Context) (replay.Rules, error)
	Now   func() time.Time
}

// Handle judges the image of an event. The event only says that it is time to
// look: what counts is what the registry has and verifies. An event can make a
// verdict worse, by naming evidence that is gone, but never better.
func (e *Evaluator) Handle(ctx context.Context, ev *eventv1.ImageAttestedEvent, d *eventbus.Delivery) error {
	image := verdictpb.Ref(ev.GetImage())
	if err := checkImage(image, true); err != nil {
		return eventbus.Permanent(reasonMalformedEvent, err)
	}
	for range maxConflicts {
		err := e.evaluate(ctx, image, ev, d.Attempt)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("judge %s: %w", image.Digest, store.ErrConflict)
}

func (e *Evaluator) evaluate(ctx context.Context, image imageref.Ref, ev *eventv1.ImageAttestedEvent, attempt int) error {
	latest, err := e.Recorder.latest(ctx, image)
	if err != nil {
		return err
	}
	owed, err := e.owed(ctx, ev, latest)
	if err != nil {
		return err
	}
	start := e.Now()
	found, err := e.Evidence.CollectOwed(ctx, image, owed)
	if err != nil {
		return permanent(err)
	}
	if gone := reportsGone(ev, found); len(gone) > 0 {
		if attempt < missingAttempts {
			return fmt.Errorf("the registry does not list attestation %s yet", gone[0].manifest)
		}
		for _, g := range gone {
			g.platform.Report = nil
			g.platform.Rejected = append(g.platform.Rejected, core.Rejected{
				PredicateType: core.PredicateReport, ManifestDigest: g.manifest,
				Why: g.manifest + " was attached by the signer and is gone",
			})
		}
	}
	if err := e.notBefore(ctx, image, found); err != nil {
		return err
	}
	rules, err := e.Rules(ctx)
	if err != nil {
		return err
	}
	if rules.Trust != "" && found.Trust != rules.Trust {
		// All images are judged again by other trust roots than ours, perhaps this one
		// was already: what ours say would stay.
		e.Evidence.RefreshTrust(ctx)
		return errTrustDiffers
	}
	now := e.Now()
	if err := e.firstSeen(ctx, latest, found, now); err != nil {
		return err
	}
	judged, err := replay.Judge(ctx, image, found.Platforms, rules, now)
	if errors.Is(err, replay.ErrRulesUnreadable) {
		// The event is tried again, and a PASS from before does not stay until that succeeds.
		cause := store.Cause{Kind: core.CauseEvidence, Detail: "new evidence, while a rule cannot be read"}
		return errors.Join(err, e.notJudged(ctx, image, cause, err))
	}
	if err != nil {
		return err
	}
	return e.Recorder.save(ctx, change{
		Judged: judged, before: latest, reports: reportTimes(found), evidence: reportsJudged(found), revision: rules.Revision, read: start,
	})
}

// owed are the attestations that the event names and those that the image rests on.
func (e *Evaluator) owed(ctx context.Context, ev *eventv1.ImageAttestedEvent, latest *store.Record) (evidence.Owed, error) {
	out := evidence.Owed{}
	for _, p := range ev.GetPlatforms() {
		for _, a := range p.GetAttestations() {
			out[p.GetDigest()] = append(out[p.GetDigest()], a.GetManifestDigest())
		}
	}
	v, err := e.Recorder.restsOn(ctx, latest)
	owedBy(v, out)
	return out, err
}

// owedOf are the attestations that a verdict rests on.
func owedOf(v *verifierv1.Verdict) evidence.Owed {
	out := evidence.Owed{}
	owedBy(v, out)
	return out
}

// owedBy adds the attestations that a verdict rests on.
func owedBy(v *verifierv1.Verdict, out evidence.Owed) {
	for _, p := range v.GetPlatforms() {
		for _, a := range p.GetInputs().GetAttestations() {
			out[p.GetDigest()] = append(out[p.GetDigest()], a.GetManifestDigest())
		}
	}
}

// reportsJudged is what the reports say that a verdict is made from. A platform without
// a report has none: whatever a scan says of it is new.
func reportsJudged(found evidence.Evidence) map[string]store.Judged {
	out := map[string]store.Judged{}
	for _, p := range found.Platforms {
		if p.Report != nil && !p.Report.Source.SignTime.Before(p.NotBefore) {
			out[p.Digest] = store.Judged{ScanTime: p.Report.ScanTime, Content: p.Report.Content}
		}
	}
	return out
}

// permanent marks permanent errors.
func permanent(err error) error {
	switch {
	case errors.Is(err, evidence.ErrNotFound):
		return eventbus.Permanent(reasonImageNotFound, err)
	case errors.Is(err, evidence.ErrNotAnImage):
		return eventbus.Permanent(reasonNotAnImage, err)
	case errors.Is(err, evidence.ErrRefused):
		return eventbus.Permanent(reasonRegistryRefused, err)
	default:
		return err
	}
}

type goneReport struct {
	platform *core.PlatformEvidence
	manifest string
}

// reportsGone lists the scan reports that the event names and the registry does
// not have.
func reportsGone(ev *eventv1.ImageAttestedEvent, found evidence.Evidence) []goneReport {
	var out []goneReport
	for _, p := range ev.GetPlatforms() {
		for i := range found.Platforms {
			if found.Platforms[i].Digest != p.GetDigest() {
				continue
			}
			for _, a := range p.GetAttestations() {
				if a.GetPredicateType() == core.PredicateReport && !found.Present[a.GetManifestDigest()] {
					out = append(out, goneReport{&found.Platforms[i], a.GetManifestDigest()})
				}
			}
		}
	}
	return out
}

func (e *Evaluator) notBefore(ctx context.Context, image imageref.Ref, found evidence.Evidence) error {
	digests := slices.Collect(maps.Keys(reportTimes(found)))
	for _, p := range found.Platforms {
		digests = append(digests, p.Digest)
	}
	times, err := e.Recorder.Store.ReportTimes(ctx, image, digests)
	if err != nil {
		return err
	}
	// An earlier release believed the future: such a time would keep out all that is true.
	horizon := e.Now().Add(attest.ClockSkew)
	maps.DeleteFunc(times, func(_ string, at time.Time) bool { return at.After(horizon) })
	for i := range found.Platforms {
		found.Platforms[i].NotBefore = times[found.Platforms[i].Digest]
		dropReplayedVex(&found.Platforms[i], times)
	}
	return nil
}

func reportTimes(found evidence.Evidence) map[string]time.Time {
	out := map[string]time.Time{}
	for _, p := range found.Platforms {
		if p.Report != nil {
			out[p.Digest] = p.Report.Source.SignTime
		}
		for _, d := range p.VEX {
			if k := vexKey(p.Digest, d.Author); d.DocumentTime.After(out[k]) {
				out[k] = d.DocumentTime
			}
		}
	}
	return out
}

// vexKey names the newest VEX document of an author on a manifest, beside the reports.
func vexKey(digest, author string) string { return digest + " vex " + author }

// dropReplayedVex leaves out the attached documents of an author whose newest one was
// taken away: the older ones may say what it had taken back.
func dropReplayedVex(p *core.PlatformEvidence, times map[string]time.Time) {
	newest := map[string]time.Time{}
	for _, d := range p.VEX {
		if d.DocumentTime.After(newest[d.Author]) {
			newest[d.Author] = d.DocumentTime
		}
	}
	p.VEX = slices.DeleteFunc(p.VEX, func(d core.VexDocument) bool {
		before := times[vexKey(p.Digest, d.Author)]
		replayed := newest[d.Author].Before(before)
		if replayed {
			p.Rejected = append(p.Rejected, core.Rejected{
				PredicateType: attest.PredicateOpenVEX, ManifestDigest: d.Digest,
				Why: d.Digest + ": a newer VEX document of " + d.Author + ", of " + before.UTC().Format(time.RFC3339) + ", was judged before and is gone",
			})
		}
		return replayed
	})
}

// checkImage checks a reference of an event.
func checkImage(image imageref.Ref, needsDigest bool) error {
	if err := image.Validate(); err != nil {
		return err
	}
	if needsDigest && image.Digest == "" {
		return errors.New("the event names no digest")
	}
	return nil
}
