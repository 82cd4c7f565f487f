package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/replay"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
)

// subject is an image to judge again, with all that was read for it.
type subject struct {
	// latest is its newest verdict as far as is known, nil for none.
	latest *store.Record
	// newest is what that says, and recorded the verdict that tells what the image rests
	// on; both are nil for a verdict that cannot be read.
	newest, recorded *verifierv1.Verdict
	rules            replay.Rules
	seen             core.Parts
	replayer         *replay.Replayer
}

// ready reads what images are judged by: the rules once, and the evidence of many
// images at a time. Rules that change meanwhile order a re-evaluation of their own.
func (r *Reevaluator) ready(ctx context.Context, images []*store.Image) ([]subject, error) {
	rules, err := r.Evaluator.Rules(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]subject, len(images))
	seen := rules.Seen()
	verdicts := make([]*verifierv1.Verdict, 0, len(images))
	for i, image := range images {
		out[i] = subject{rules: rules, seen: seen}
		if image == nil || image.Latest == nil {
			continue
		}
		l := image.Latest
		out[i].latest = l
		v, err := verdictpb.Decode(l.Body, l.Sequence, l.Digest, l.TraceID)
		if err != nil {
			r.Evaluator.Recorder.log.ErrorContext(ctx, "recorded verdict cannot be read; the image is judged by what its registry has", "image", l.Image.String(), "error", err)
			continue
		}
		out[i].newest, out[i].recorded = v, v
		switch code := codeOf(v); {
		case code == core.CodeRulesUnreadable:
			out[i].recorded = nil // newer evidence may have come that was not judged
		case code.NotJudged():
			if out[i].recorded, err = r.Evaluator.Recorder.restsOn(ctx, l); err != nil {
				return nil, err
			}
		}
		if out[i].recorded != nil {
			verdicts = append(verdicts, out[i].recorded)
		}
	}
	replayer, err := r.Replayer.Ahead(ctx, verdicts, seen)
	if err != nil {
		return nil, err
	}
	for i := range out {
		out[i].replayer = replayer
	}
	return out, nil
}

// reading says what may be read to judge an image again.
type reading bool

const (
	recordedOnly reading = false
	alsoRegistry reading = true
)

// image judges an image again.
func (r *Reevaluator) image(ctx context.Context, image imageref.Ref, now subject, cause store.Cause, from reading) error {
	ctx, span := r.Tracer.Start(ctx, "reevaluate")
	defer span.End()
	for range maxConflicts {
		err := r.judge(ctx, now, cause, from)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		latest, err := r.Evaluator.Recorder.latest(ctx, image)
		if err != nil {
			return err
		}
		again, err := r.ready(ctx, []*store.Image{{Latest: latest}})
		if err != nil {
			return err
		}
		now = again[0]
	}
	return fmt.Errorf("judge %s again: %w", image.Digest, store.ErrConflict)
}

func (r *Reevaluator) judge(ctx context.Context, s subject, cause store.Cause, from reading) error {
	latest, recorded := s.latest, s.recorded
	if latest == nil || s.newest != nil && (!wasJudged(s.newest) || isGone(s.newest)) {
		return nil
	}
	image := latest.Image
	if recorded != nil {
		image = verdictpb.Ref(recorded.GetImage())
	}
	if err := s.rules.CheckReadable(image); err != nil {
		return err
	}
	found, fresh, err := r.evidence(ctx, image, s, from, cause.Kind == core.CauseTrust)
	if errors.Is(err, evidence.ErrNotFound) || errors.Is(err, evidence.ErrNotAnImage) {
		// Nothing speaks for it any more. Whether the image is gone, or only cannot be
		// read, is for looks of their own to find out.
		if err := r.Evaluator.Recorder.Store.RequestLook(ctx, image, r.Evaluator.Now(), r.Evaluator.Now()); err != nil {
			return err
		}
		return r.Evaluator.Recorder.save(ctx, change{
			Judged: replay.Judged{Verdict: core.Unjudged(image, core.CodeEvidenceMissing, "the evidence cannot be read again: "+err.Error(), r.Evaluator.Now())},
			before: latest, cause: cause, revision: store.AnyRevision, keepPending: true,
		})
	}
	if err != nil {
		return err
	}
	now := r.Evaluator.Now()
	v, err := replay.Verdict(ctx, image, found.Platforms, s.rules, now)
	if err != nil {
		return err
	}
	if cause.Kind == core.CauseExpiry && recorded != nil {
		cause.Detail = core.Truncate(whatEnded(recorded, now))
	}
	same := s.newest != nil && cause.Kind != core.CauseExpiry && verdictpb.SaysTheSame(s.newest, v)
	if same && !fresh && (cause.Kind != core.CauseTrust || sameVex(s.newest, v)) {
		// Most images, after most changes: nothing is packed, signed or stored. What was
		// stored meanwhile was made by these rules or newer ones.
		r.Evaluator.Recorder.same(ctx, v)
		return nil
	}
	// What is recorded may cite evidence that is not trusted any more. A verdict that says
	// the same from other evidence takes its place.
	c := change{before: latest, cause: cause, revision: s.rules.Revision, keepPending: true, replace: true}
	if fresh {
		c.reports, c.evidence = reportTimes(found), reportsJudged(found)
		c.Judged, err = replay.Record(v, found.Platforms, s.rules)
	} else {
		c.Judged, err = replay.RecordAgain(v, recorded, s.rules)
	}
	if err != nil {
		return err
	}
	if same && sameVex(s.newest, c.Verdict) && sameEvidence(s.newest, c.Verdict) {
		r.Evaluator.Recorder.same(ctx, v)
		return nil
	}
	return r.Evaluator.Recorder.save(ctx, c)
}

// sameEvidence tells whether a verdict was made from the recorded evidence of another one.
func sameEvidence(recorded *verifierv1.Verdict, made core.Verdict) bool {
	return slices.EqualFunc(recorded.GetPlatforms(), made.Platforms, func(a *verifierv1.PlatformVerdict, b core.PlatformVerdict) bool {
		return a.GetInputs().GetEvidenceDigest() == b.Inputs.EvidenceDigest
	})
}

// sameVex tells whether a verdict cites the imported VEX documents that another one does.
func sameVex(recorded *verifierv1.Verdict, made core.Verdict) bool {
	return slices.EqualFunc(recorded.GetPlatforms(), made.Platforms, func(a *verifierv1.PlatformVerdict, b core.PlatformVerdict) bool {
		return slices.Equal(a.GetInputs().GetVexDigests(), b.Inputs.VexDigests)
	})
}

// evidence is the recorded evidence, as much of it as the rules look at, while all of it
// is by keys that are trusted now, and what the registry has otherwise: that is fresh.
// After a change of trust the registry is asked too if it has what was not trusted before.
func (r *Reevaluator) evidence(ctx context.Context, image imageref.Ref, s subject, from reading, otherTrust bool) (found evidence.Evidence, fresh bool, err error) {
	if s.recorded != nil {
		platforms, missing, err := s.replayer.Evidence(ctx, s.recorded, s.seen)
		if err != nil {
			return evidence.Evidence{}, false, err
		}
		if len(missing) == 0 && len(platforms) > 0 && r.trusted(platforms) && (!otherTrust || !distrusted(platforms)) {
			return evidence.Evidence{Platforms: platforms}, false, nil
		}
	}
	if from == recordedOnly {
		return evidence.Evidence{}, false, errRegistryNeeded
	}
	restsOn, err := r.Evaluator.Recorder.restsOn(ctx, s.latest)
	if err != nil {
		return evidence.Evidence{}, false, err
	}
	if found, err = r.Evaluator.Evidence.CollectOwed(ctx, image, owedOf(restsOn)); err != nil {
		return evidence.Evidence{}, false, err
	}
	if err := r.Evaluator.notBefore(ctx, image, found); err != nil {
		return evidence.Evidence{}, false, err
	}
	if err := r.Evaluator.firstSeen(ctx, s.latest, found, r.Evaluator.Now()); err != nil {
		return evidence.Evidence{}, false, err
	}
	return found, true, nil
}

// distrusted tells whether something was set aside because of who signed it.
func distrusted(platforms []core.PlatformEvidence) bool {
	return slices.ContainsFunc(platforms, func(p core.PlatformEvidence) bool {
		return slices.ContainsFunc(p.Rejected, evidence.RejectedForTrust)
	})
}

func (r *Reevaluator) trusted(platforms []core.PlatformEvidence) bool {
	for _, p := range platforms {
		for _, a := range p.Attestations {
			if !r.Trusted(a) {
				return false
			}
		}
		for _, d := range p.VEX {
			if !r.Evaluator.Authors.Believes(d, r.Evaluator.Now()) {
				return false
			}
		}
	}
	return true
}

// whatEnded names what a verdict rested on and has reached its end.
func whatEnded(v *verifierv1.Verdict, now time.Time) string {
	for _, e := range v.GetExceptions() {
		if !now.Before(e.GetExpireTime().AsTime()) {
			return fmt.Sprintf("exception %s ended at %s", e.GetName(), e.GetExpireTime().AsTime().Format(time.RFC3339))
		}
	}
	return "evidence or advisories reached the greatest age that a policy allows"
}
