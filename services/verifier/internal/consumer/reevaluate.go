package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/replay"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
)

const (
	reevaluateLease = "reevaluate"
	// leaseFor is how long another replica waits for one that died.
	leaseFor = 15 * time.Second
	// lookEvery bounds how late an end is noticed.
	lookEvery = time.Second
	// reevaluateBatch is the number of images between two notes of how far it came.
	reevaluateBatch = 50
	// retryAfter is the pause before an ended verdict is tried again.
	retryAfter = time.Minute
)

// Reevaluator judges images again when the rules have changed or a verdict has
// ended, from the recorded evidence if it is still trusted, otherwise from the
// registry. One replica does it at a time; another one goes on where it stopped.
type Reevaluator struct {
	Evaluator *Evaluator
	Replayer  *replay.Replayer
	// Trusted tells whether recorded evidence would still be believed.
	Trusted func(core.Attestation) bool
	// SyncTrust orders all images to be judged again if the trust roots have changed
	// since they were.
	SyncTrust func(context.Context) error
	// Holder names this replica.
	Holder string
	Tracer trace.Tracer

	// failed tells when an image whose verdict has ended could not be judged.
	failed map[imageref.Ref]time.Time
}

// Run works until ctx ends.
func (r *Reevaluator) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	defer r.release(ctx)
	for {
		if err := r.once(ctx); err != nil && ctx.Err() == nil {
			r.Evaluator.Recorder.log.WarnContext(ctx, "re-evaluation stopped; it goes on with the next look", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// once does what there is to do now.
func (r *Reevaluator) once(ctx context.Context) error {
	mine, err := r.lease(ctx)
	if err != nil || !mine {
		return err
	}
	if err := r.SyncTrust(ctx); err != nil {
		return err
	}
	if err := r.expired(ctx); err != nil {
		return err
	}
	for {
		work, err := r.Evaluator.Recorder.Store.NextReevaluation(ctx)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.work(ctx, work); err != nil {
			return err
		}
	}
}

func (r *Reevaluator) lease(ctx context.Context) (bool, error) {
	return r.Evaluator.Recorder.Store.Lease(ctx, reevaluateLease, r.Holder, r.Evaluator.Now(), leaseFor)
}

// release lets another replica go on at once.
func (r *Reevaluator) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, err := r.Evaluator.Recorder.Store.Lease(ctx, reevaluateLease, r.Holder, r.Evaluator.Now(), 0); err != nil {
		r.Evaluator.Recorder.log.DebugContext(ctx, "lease not released; it ends by itself", "error", err)
	}
}

// expired judges the images whose verdict has ended.
func (r *Reevaluator) expired(ctx context.Context) error {
	var after imageref.Ref
	for {
		due, err := r.Evaluator.Recorder.Store.Expired(ctx, r.Evaluator.Now(), after, reevaluateBatch)
		if err != nil || len(due) == 0 {
			return err
		}
		after = due[len(due)-1]
		if err := r.batch(ctx, due, store.Cause{Kind: core.CauseExpiry}); err != nil {
			return err
		}
	}
}

// work judges the images that a change of the rules may touch.
func (r *Reevaluator) work(ctx context.Context, w store.Reevaluation) error {
	matches, err := scope(w)
	if err != nil {
		return err
	}
	for {
		images, err := r.Evaluator.Recorder.Store.JudgedAfter(ctx, w.After, reevaluateBatch)
		if err != nil {
			return err
		}
		if len(images) == 0 {
			return r.Evaluator.Recorder.Store.AdvanceReevaluation(ctx, w, true)
		}
		w.After = images[len(images)-1]
		images = slices.DeleteFunc(images, func(i imageref.Ref) bool { return !matches(i.Name()) })
		if err := r.batch(ctx, images, w.Cause); err != nil {
			return err
		}
		if err := r.Evaluator.Recorder.Store.AdvanceReevaluation(ctx, w, false); err != nil {
			return err
		}
	}
}

// scope tells which images a change of the rules is about.
func scope(w store.Reevaluation) (matches func(repository string) bool, err error) {
	if len(w.Repositories) == 0 {
		return func(string) bool { return true }, nil
	}
	matchers := make([]func(string) bool, 0, len(w.Repositories))
	for _, g := range w.Repositories {
		m, err := policy.Glob(g)
		if err != nil {
			return nil, fmt.Errorf("re-evaluation %d: %w", w.Revision, err)
		}
		matchers = append(matchers, m)
	}
	return func(repository string) bool {
		return slices.ContainsFunc(matchers, func(m func(string) bool) bool { return m(repository) })
	}, nil
}

// batch judges images. An ended verdict that cannot be made
// again now is served as UNKNOWN anyway and tried again later; a changed rule waits
// for its images.
func (r *Reevaluator) batch(ctx context.Context, images []imageref.Ref, cause store.Cause) error {
	mine, err := r.lease(ctx)
	if err != nil {
		return err
	}
	if !mine {
		return errors.New("another replica has taken over")
	}
	// The work may take long, and a change of trust does not wait for its end.
	if err := r.SyncTrust(ctx); err != nil {
		return err
	}
	latest, err := r.Evaluator.Recorder.Store.Lookup(ctx, images, time.Time{})
	if err != nil {
		return err
	}
	now, err := r.ready(ctx, latest)
	if err != nil {
		return err
	}
	for i, image := range images {
		ended := cause.Kind == core.CauseExpiry
		if ended && r.Evaluator.Now().Before(r.failed[image].Add(retryAfter)) {
			continue
		}
		delete(r.failed, image)
		err := r.image(ctx, image, now[i], cause)
		if err == nil {
			continue
		}
		if ctx.Err() != nil || !ended {
			return fmt.Errorf("judge %s again: %w", image.String(), err)
		}
		r.Evaluator.Recorder.log.WarnContext(ctx, "ended verdict not made again", "image", image.String(), "error", err)
		if r.failed == nil {
			r.failed = map[imageref.Ref]time.Time{}
		}
		r.failed[image] = r.Evaluator.Now()
	}
	return nil
}

// subject is an image to judge again, with all that was read for it.
type subject struct {
	// latest is its newest verdict as far as is known, nil for none, and recorded what
	// it says.
	latest   *store.Record
	recorded *verifierv1.Verdict
	// fault is why it cannot be read.
	fault    error
	rules    replay.Rules
	seen     core.Parts
	replayer *replay.Replayer
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
		v, err := verdictpb.Decode(l.Body, l.Sequence, l.Digest, l.TraceID)
		if out[i].latest, out[i].recorded, out[i].fault = l, v, err; err != nil {
			continue
		}
		verdicts = append(verdicts, v)
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

// image judges an image again.
func (r *Reevaluator) image(ctx context.Context, image imageref.Ref, now subject, cause store.Cause) error {
	ctx, span := r.Tracer.Start(ctx, "reevaluate")
	defer span.End()
	for range maxConflicts {
		err := r.judge(ctx, now, cause)
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

func (r *Reevaluator) judge(ctx context.Context, s subject, cause store.Cause) error {
	latest, recorded := s.latest, s.recorded
	if s.fault != nil {
		return s.fault
	}
	if latest == nil || !wasJudged(recorded) {
		return nil
	}
	image := verdictpb.Ref(recorded.GetImage())
	platforms, fresh, err := r.evidence(ctx, image, s, cause.Kind == core.CauseTrust)
	if errors.Is(err, evidence.ErrNotFound) || errors.Is(err, evidence.ErrNotAnImage) || errors.Is(err, evidence.ErrRefused) {
		// What it rested on is gone for good, so nothing speaks for it any more.
		return r.Evaluator.Recorder.save(ctx, change{
			Judged: replay.Judged{Verdict: core.Unjudged(image, core.CodeEvidenceMissing, "the evidence cannot be read again: "+err.Error(), r.Evaluator.Now())},
			before: latest, cause: cause, revision: store.AnyRevision, keepPending: true,
		})
	}
	if err != nil {
		return err
	}
	now := r.Evaluator.Now()
	v, err := replay.Verdict(ctx, image, platforms, s.rules, now)
	if err != nil {
		return err
	}
	if cause.Kind == core.CauseExpiry {
		cause.Detail = core.Truncate(whatEnded(recorded, now))
	} else if verdictpb.SaysTheSame(recorded, v) {
		// Most images, after most changes: nothing is packed, signed or stored. What was
		// stored meanwhile was made by these rules or newer ones.
		r.Evaluator.Recorder.same(ctx, v)
		return nil
	}
	var judged replay.Judged
	if fresh {
		judged, err = replay.Record(v, platforms, s.rules)
	} else {
		judged, err = replay.RecordAgain(v, recorded, s.rules)
	}
	if err != nil {
		return err
	}
	return r.Evaluator.Recorder.save(ctx, change{
		Judged: judged, before: latest, cause: cause, revision: s.rules.Revision, keepPending: true,
	})
}

// evidence is the recorded evidence, as much of it as the rules look at, while all of it
// is by keys that are trusted now, and what the registry has otherwise: that is fresh.
// After a change of trust the registry is asked too if it has what was not trusted before.
func (r *Reevaluator) evidence(ctx context.Context, image imageref.Ref, s subject, otherTrust bool) (platforms []core.PlatformEvidence, fresh bool, err error) {
	platforms, missing, err := s.replayer.Evidence(ctx, s.recorded, s.seen)
	if err != nil {
		return nil, false, err
	}
	if len(missing) == 0 && r.trusted(platforms) && !(otherTrust && distrusted(platforms)) {
		return platforms, false, nil
	}
	found, err := r.Evaluator.Evidence.Collect(ctx, image)
	if err != nil {
		return nil, false, err
	}
	if err := r.Evaluator.notBefore(ctx, image, found); err != nil {
		return nil, false, err
	}
	if err := r.Evaluator.firstSeen(ctx, s.latest, found, r.Evaluator.Now()); err != nil {
		return nil, false, err
	}
	return found.Platforms, true, nil
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
