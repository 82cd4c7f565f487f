package consumer

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/replay"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
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
			r.Evaluator.Recorder.log.WarnContext(ctx, "re-evaluation interrupted; it continues in the next round", "error", err)
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
		r.Evaluator.Recorder.log.DebugContext(ctx, "lease not released; it will expire", "error", err)
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
		r.Evaluator.Recorder.log.WarnContext(ctx, "images affected by a rule change unknown; evaluating all of them again",
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
	r.Evaluator.Recorder.log.WarnContext(ctx, "expired verdict not evaluated again", "image", image.String(), "error", err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		r.failed = map[imageref.Ref]time.Time{}
	}
	r.failed[image] = r.Evaluator.Now()
	return nil
}
