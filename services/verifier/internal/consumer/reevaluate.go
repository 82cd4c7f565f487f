package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
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
	// atOnce is the number of images for which registries are read at a time.
	atOnce = 8
	// imageBudget is how long an image may take for which the registry is read.
	imageBudget = 20 * time.Second
)

var (
	// errRegistryNeeded says that recorded evidence is not enough.
	errRegistryNeeded = errors.New("the evidence has to be read from the registry")
	// errBudget says that an image took too long.
	errBudget = errors.New("the evidence could not be read in time")
)

// Reevaluator judges images again when the rules have changed or a verdict has
// ended, from the recorded evidence if it is still trusted, otherwise from the
// registry, and notes evidence that is overdue. One replica does it at a time; another
// one goes on where it stopped. Each image is judged by itself: one that cannot be is
// UNKNOWN and tried again.
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
	// Backlog is told, every few seconds, of reports that wait; nil tells nobody.
	Backlog func(context.Context, store.Backlog)

	// counted is when the backlog was counted last.
	counted time.Time
	hosts   hosts

	mu sync.Mutex
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
		if r.Backlog != nil && err == nil {
			r.Backlog(ctx, store.Backlog{}) // the replica that works tells
		}
		return err
	}
	// What is overdue is noted whatever else fails. Images are judged only once it is
	// known that the trust roots are those that all of them are judged by.
	late := r.overdue(ctx)
	if err := r.SyncTrust(ctx); err != nil {
		return errors.Join(late, err)
	}
	return errors.Join(late, r.expired(ctx), r.retries(ctx), r.changes(ctx))
}

// changes judges images again that changes of the rules may touch.
func (r *Reevaluator) changes(ctx context.Context) error {
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
	maps.DeleteFunc(r.failed, func(_ imageref.Ref, at time.Time) bool { return !r.Evaluator.Now().Before(at.Add(retryAfter)) })
	for {
		due, err := r.Evaluator.Recorder.Store.Expired(ctx, r.Evaluator.Now(), after, reevaluateBatch)
		if err != nil || len(due) == 0 {
			return err
		}
		after = due[len(due)-1]
		due = slices.DeleteFunc(due, func(i imageref.Ref) bool { return !r.failed[i].IsZero() })
		err = r.batch(ctx, due, store.Cause{Kind: core.CauseExpiry}, r.notRenewed)
		if err != nil {
			return err
		}
	}
}

// work judges the images that a change of the rules may touch.
func (r *Reevaluator) work(ctx context.Context, w store.Reevaluation) error {
	matches, err := policy.Matching(w.Repositories)
	if err != nil {
		r.Evaluator.Recorder.log.WarnContext(ctx, "the images that a change of the rules is for are not known; all are judged again",
			"cause", w.Cause.Detail, "error", err)
		matches = func(string) bool { return true }
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
		err = r.batch(ctx, images, w.Cause, func(ctx context.Context, image imageref.Ref, err error) error {
			return r.unreadable(ctx, store.Retry{Image: image, Cause: w.Cause}, err)
		})
		if err != nil {
			return err
		}
		if err := r.overdue(ctx); err != nil {
			return err
		}
		if err := r.Evaluator.Recorder.Store.AdvanceReevaluation(ctx, w, false); err != nil {
			return err
		}
	}
}

// notRenewed notes that an ended verdict could not be made again. It is served as UNKNOWN
// anyway and tried again later.
func (r *Reevaluator) notRenewed(ctx context.Context, image imageref.Ref, err error) error {
	r.Evaluator.Recorder.log.WarnContext(ctx, "ended verdict not made again", "image", image.String(), "error", err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		r.failed = map[imageref.Ref]time.Time{}
	}
	r.failed[image] = r.Evaluator.Now()
	return nil
}

// batch judges images, each by itself: first those that recorded evidence is enough for,
// one after the other, then the others, a few at a time, for whom the registry is read.
// failed is told of each that could not be judged; the batch ends if it cannot cope.
func (r *Reevaluator) batch(ctx context.Context, images []imageref.Ref, cause store.Cause, failed func(context.Context, imageref.Ref, error) error) error {
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
	var rest []int
	for i, image := range images {
		err := r.image(ctx, image, now[i], cause, recordedOnly)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errRegistryNeeded):
			rest = append(rest, i)
		default:
			if err := failed(ctx, image, err); err != nil {
				return err
			}
		}
	}
	if len(rest) == 0 {
		return nil
	}
	defer r.holdLease(ctx)()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, i := range rest {
		g.Go(func() error {
			if err := r.fromRegistry(gctx, images[i], now[i], cause); err != nil && gctx.Err() == nil {
				return failed(gctx, images[i], err)
			}
			return nil
		})
	}
	err = g.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// fromRegistry judges an image for which the registry is read, within a budget of time.
func (r *Reevaluator) fromRegistry(ctx context.Context, image imageref.Ref, now subject, cause store.Cause) error {
	if err := r.hosts.ask(image.Registry, r.Evaluator.Now()); err != nil {
		return err
	}
	within, cancel := context.WithTimeoutCause(ctx, imageBudget, errBudget)
	defer cancel()
	err := r.image(within, image, now, cause, alsoRegistry)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", errBudget, err)
	}
	r.hosts.answered(image.Registry, err != nil && (errors.Is(err, errBudget) || registry.Temporary(err)), r.Evaluator.Now())
	return err
}

// holdLease keeps the lease until the function that it returns is called.
func (r *Reevaluator) holdLease(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(leaseFor / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if _, err := r.lease(ctx); err != nil && ctx.Err() == nil {
					r.Evaluator.Recorder.log.WarnContext(ctx, "lease not prolonged", "error", err)
				}
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

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
