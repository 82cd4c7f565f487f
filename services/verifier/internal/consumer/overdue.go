package consumer

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/replay"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
)

const (
	// countEvery is the time between two counts of the reports that wait.
	countEvery = 5 * time.Second
	// firstRetry and lastRetry bound the pause before an image is tried again.
	firstRetry = 5 * time.Second
	lastRetry  = 10 * time.Minute
)

// overdue stores that evidence is overdue, where it is since the last look. Answers are
// UNKNOWN already: they are made with the clock.
func (r *Reevaluator) overdue(ctx context.Context) error {
	recorder := r.Evaluator.Recorder
	if _, err := recorder.Store.Overtake(ctx, recorder.Patience.Overtaken); err != nil {
		return err
	}
	due, err := recorder.Store.Overdue(ctx, r.Evaluator.Now(), reevaluateBatch)
	if err != nil {
		return err
	}
	var failed error
	for _, w := range due {
		failed = errors.Join(failed, r.noteOverdue(ctx, w))
	}
	if now := r.Evaluator.Now(); r.Backlog != nil && now.Sub(r.counted).Abs() >= countEvery {
		b, err := recorder.Store.Backlog(ctx, now, recorder.Patience.Overtaken)
		if err != nil {
			return errors.Join(failed, err)
		}
		r.counted = now
		r.Backlog(ctx, b)
	}
	return failed
}

func (r *Reevaluator) noteOverdue(ctx context.Context, w store.Waiting) error {
	recorder := r.Evaluator.Recorder
	for range maxConflicts {
		latest, err := recorder.latest(ctx, w.Image)
		if err != nil {
			return err
		}
		if latest == nil {
			return nil
		}
		image := w.Image
		if v, err := verdictpb.Decode(latest.Body, latest.Sequence, latest.Digest, latest.TraceID); err == nil {
			image = verdictpb.Ref(v.GetImage())
		}
		err = recorder.overdue(ctx, w, image, latest, r.Evaluator.Now())
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	// Judged or changed meanwhile; if not, the next look finds it again.
	return nil
}

// retries judges images again that could not be judged before.
func (r *Reevaluator) retries(ctx context.Context) error {
	due, err := r.Evaluator.Recorder.Store.Retries(ctx, r.Evaluator.Now(), reevaluateBatch)
	if err != nil {
		return err
	}
	byCause := map[store.Cause][]store.Retry{}
	for _, retry := range due {
		byCause[retry.Cause] = append(byCause[retry.Cause], retry)
	}
	for cause, some := range byCause {
		images := make([]imageref.Ref, len(some))
		again := make(map[imageref.Ref]store.Retry, len(some))
		for i, retry := range some {
			images[i], again[retry.Image] = retry.Image, retry
		}
		var mu sync.Mutex
		failed := map[imageref.Ref]bool{}
		err := r.batch(ctx, images, cause, func(ctx context.Context, image imageref.Ref, err error) error {
			mu.Lock()
			failed[image] = true
			mu.Unlock()
			return r.unreadable(ctx, again[image], err)
		})
		if err != nil {
			return err
		}
		for _, image := range images {
			if failed[image] {
				continue
			}
			if err := r.Evaluator.Recorder.Store.EndRetry(ctx, image); err != nil {
				return err
			}
		}
	}
	return nil
}

// unreadable makes an image UNKNOWN that could not be judged by rules that have changed,
// and has it tried again. An error says that not even that could be stored.
func (r *Reevaluator) unreadable(ctx context.Context, retry store.Retry, why error) error {
	recorder := r.Evaluator.Recorder
	recorder.log.WarnContext(ctx, "image could not be evaluated by the current policies; it is UNKNOWN until a retry succeeds",
		"image", retry.Image.String(), "attempts", retry.Attempts+1, "error", why)
	retry.Problem = core.Truncate(why.Error())
	retry.NextTime = r.Evaluator.Now().Add(min(firstRetry<<min(retry.Attempts, 16), lastRetry))
	retry.Attempts++
	// First what makes it judged in the end.
	if err := recorder.Store.ScheduleRetry(ctx, retry); err != nil {
		return err
	}
	return r.Evaluator.notJudged(ctx, retry.Image, retry.Cause, why)
}

// notJudged makes an image UNKNOWN that could not be judged by the rules in force.
func (e *Evaluator) notJudged(ctx context.Context, image imageref.Ref, cause store.Cause, why error) error {
	code, message := core.CodeEvidenceUnreadable, "the evidence could not be read to judge the image by the rules in force; this is tried again: "+why.Error()
	if errors.Is(why, replay.ErrRulesUnreadable) {
		code, message = core.CodeRulesUnreadable, why.Error()
	}
	backlog, err := e.Recorder.Store.Backlog(ctx, e.Now(), e.Recorder.Patience.Overtaken)
	if err != nil {
		return err
	}
	for range maxConflicts {
		latest, err := e.Recorder.latest(ctx, image)
		if err != nil {
			return err
		}
		named := image
		if latest != nil {
			if v, err := verdictpb.Decode(latest.Body, latest.Sequence, latest.Digest, latest.TraceID); err == nil {
				if codeOf(v) == code {
					return nil
				}
				named = verdictpb.Ref(v.GetImage())
			}
		}
		err = e.Recorder.save(ctx, change{
			Judged: replay.Judged{Verdict: core.Unjudged(named, code, message, e.Now())},
			before: latest, cause: cause, revision: store.AnyRevision, keepPending: code == core.CodeEvidenceUnreadable,
			quiet: backlog.Unreadable > MaxTold,
		})
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	// Whatever is stored for it all the time is made by the rules in force.
	e.Recorder.log.WarnContext(ctx, "verdict of the image keeps changing; will retry", "image", image.String())
	return nil
}

const (
	// hostFailures in a row are taken as a registry that is down.
	hostFailures = 3
	// hostPause is how long such a registry is left alone.
	hostPause = 10 * time.Second
)

// errHostDown says that a registry is left alone for a while.
var errHostDown = errors.New("the registry did not answer for other images; it is asked again later")

// hosts knows which registries do not answer, so that an image does not wait for one
// that is down. The zero value is ready.
type hosts struct {
	mu     sync.Mutex
	health map[string]*hostHealth
}

type hostHealth struct {
	failures int
	until    time.Time
}

// ask tells with an error that a registry is left alone now.
func (h *hosts) ask(host string, now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.health[host]; s != nil && now.Before(s.until) {
		return errHostDown
	}
	return nil
}

// answered notes whether a registry failed to answer.
func (h *hosts) answered(host string, failed bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !failed {
		delete(h.health, host)
		return
	}
	if h.health == nil {
		h.health = map[string]*hostHealth{}
	}
	s := h.health[host]
	if s == nil {
		s = &hostHealth{}
		h.health[host] = s
	}
	if s.failures++; s.failures >= hostFailures {
		s.until = now.Add(hostPause)
	}
}
