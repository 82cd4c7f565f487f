package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/replay"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
)

var (
	// ErrNotJudged says that an image has no verdict that could be made again.
	ErrNotJudged = errors.New("the image has no verdict")
	// errVanished says that the registry does not list a scan report that was judged.
	errVanished = errors.New("the registry does not list a scan report that was judged before")
)

// Reread reads the evidence of an image from the registry and judges the image by it.
// It tells whether required evidence is missing. For the errors see
// evidence.Collector.Collect; ErrNotJudged.
func (e *Evaluator) Reread(ctx context.Context, image imageref.Ref) (lacking bool, err error) {
	return e.rereadUntil(ctx, image, true)
}

// rereadUntil is Reread. Unless it is certain, a scan report that vanished is
// errVanished: a list that is being written may lack it for a moment.
func (e *Evaluator) rereadUntil(ctx context.Context, image imageref.Ref, certain bool) (lacking bool, err error) {
	for range maxConflicts {
		lacking, err = e.reread(ctx, image, certain)
		if !errors.Is(err, store.ErrConflict) {
			return lacking, err
		}
	}
	return false, fmt.Errorf("judge %s again: %w", image.Digest, store.ErrConflict)
}

func (e *Evaluator) reread(ctx context.Context, image imageref.Ref, certain bool) (bool, error) {
	latest, recorded, err := e.judged(ctx, image)
	if err != nil {
		return false, err
	}
	// The tag that the image was called by is part of what rules see.
	image = verdictpb.Ref(recorded.GetImage())
	restsOn, err := e.Recorder.restsOn(ctx, latest)
	if err != nil {
		return false, err
	}
	start := e.Now()
	found, err := e.Evidence.CollectOwed(ctx, image, owedOf(restsOn))
	if err != nil {
		return false, err
	}
	if !certain && vanished(restsOn, found) {
		return false, errVanished
	}
	reported := slices.ContainsFunc(found.Platforms, func(p core.PlatformEvidence) bool { return p.Report != nil })
	if !wasJudged(recorded) && !reported {
		return false, nil // the step that gave up is the better reason
	}
	if err := e.notBefore(ctx, image, found); err != nil {
		return false, err
	}
	rules, err := e.Rules(ctx)
	if err != nil {
		return false, err
	}
	if rules.Trust != "" && found.Trust != rules.Trust {
		e.Evidence.RefreshTrust(ctx)
		return false, errTrustDiffers
	}
	now := e.Now()
	if err := e.firstSeen(ctx, latest, found, now); err != nil {
		return false, err
	}
	judged, err := replay.Judge(ctx, image, found.Platforms, rules, now)
	if errors.Is(err, replay.ErrRulesUnreadable) {
		cause := store.Cause{Kind: core.CauseEvidence, Detail: "evidence read again, while a rule cannot be read"}
		return false, errors.Join(err, e.notJudged(ctx, image, cause, err))
	}
	if err != nil {
		return false, err
	}
	return lacksEvidence(judged.Verdict), e.Recorder.save(ctx, change{
		Judged: judged, before: latest, reports: reportTimes(found), evidence: reportsJudged(found), revision: rules.Revision, read: start, keepPending: true,
	})
}

// Gone makes the verdict of an image that its registry no longer has UNKNOWN.
func (e *Evaluator) Gone(ctx context.Context, image imageref.Ref, since time.Time) error {
	for range maxConflicts {
		latest, recorded, err := e.judged(ctx, image)
		if err != nil {
			return err
		}
		message := "the registry no longer has the image, since " + since.UTC().Format(time.RFC3339) + " at the latest"
		if isGone(recorded) {
			message = recorded.GetReasons()[0].GetMessage() // it is the same fact
		}
		image := verdictpb.Ref(recorded.GetImage())
		err = e.Recorder.save(ctx, change{
			Judged: replay.Judged{Verdict: core.Unjudged(image, core.CodeImageGone, message, e.Now())},
			before: latest, revision: store.AnyRevision, keepPending: true,
			cause: store.Cause{Kind: core.CauseEvidence, Detail: core.Truncate(message)},
		})
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("note that %s is gone: %w", image.Digest, store.ErrConflict)
}

// judged returns the newest verdict of an image, or ErrNotJudged.
func (e *Evaluator) judged(ctx context.Context, image imageref.Ref) (*store.Record, *verifierv1.Verdict, error) {
	latest, err := e.Recorder.latest(ctx, image)
	if err != nil {
		return nil, nil, err
	}
	if latest == nil {
		return nil, nil, ErrNotJudged
	}
	recorded, err := verdictpb.Decode(latest.Body, latest.Sequence, latest.Digest, latest.TraceID)
	return latest, recorded, err
}

// vanished tells whether a scan report that the verdict was made from is not there now.
func vanished(recorded *verifierv1.Verdict, found evidence.Evidence) bool {
	for _, p := range recorded.GetPlatforms() {
		for _, a := range p.GetInputs().GetAttestations() {
			if a.GetPredicateType() == core.PredicateReport && !found.Present[a.GetManifestDigest()] {
				return true
			}
		}
	}
	return false
}

func isGone(v *verifierv1.Verdict) bool {
	return len(v.GetReasons()) > 0 && v.GetReasons()[0].GetCode() == string(core.CodeImageGone)
}

// lacksEvidence tells whether evidence that is not there yet may change the verdict.
// What is there and no evidence counts too, or anybody could end the search with an
// attestation of their own. So does an image that is gone: it may come back.
func lacksEvidence(v core.Verdict) bool {
	return slices.ContainsFunc(v.Reasons, func(r core.Reason) bool {
		switch r.Code {
		case core.CodeEvidenceMissing, core.CodeEvidenceInvalid, core.CodeEvidenceStale, core.CodeImageGone:
			return true
		default:
			return false
		}
	})
}

// saysGone tells whether a registry said in its own words that it has no such manifest.
// A proxy or a server that is not one also answers 404.
func saysGone(err error) bool {
	answer, ok := errors.AsType[*registry.Error](err)
	if !ok || !errors.Is(err, evidence.ErrNotFound) {
		return false
	}
	switch answer.Code {
	case "MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND":
		return true
	default:
		return false
	}
}
