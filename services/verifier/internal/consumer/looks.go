package consumer

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
)

const (
	looksLease = "looks"
	// settleFor lets the hints of one push, or of one CI job, become one look.
	settleFor = 2 * time.Second
	// lookBatch is the number of looks between two extensions of the lease.
	lookBatch = 16
	// lookTimeout bounds one look: a registry that hangs must not take a slot for long.
	lookTimeout = 2 * time.Minute
	// certainAfter is the attempt from which on a scan report that is not listed is gone.
	certainAfter = 2
	// goneAfter is how long a registry must say that it has no such manifest.
	goneAfter = 15 * time.Second
)

// lookDelays are the pauses between looks for missing evidence; the last one repeats.
var lookDelays = []time.Duration{
	store.FirstLook, 45 * time.Second, 4 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour,
}

// retryDelays are the pauses between looks that failed; the last one repeats.
var retryDelays = []time.Duration{2 * time.Second, 10 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute}

func delay(of []time.Duration, attempt int) time.Duration { return of[max(0, min(attempt, len(of)-1))] }

// Hints turns events that hint at a change in a registry into looks at it. They are
// stored before the event is acknowledged.
type Hints struct {
	Store store.Store
	Now   func() time.Time
}

// Referrer handles a hint that something which refers to an image was pushed. If the
// hint does not name the image, the look reads the manifest of the referrer.
func (h *Hints) Referrer(ctx context.Context, ev *eventv1.ImageReferrerEvent, _ *eventbus.Delivery) error {
	image := ev.GetImage()
	if image.GetDigest() == "" {
		image = &typev1.ImageRef{Registry: image.GetRegistry(), Repository: image.GetRepository(), Digest: ev.GetReferrerDigest()}
	}
	return h.request(ctx, image)
}

// Deleted handles a hint that a manifest was deleted.
func (h *Hints) Deleted(ctx context.Context, ev *eventv1.ImageDeletedEvent, _ *eventbus.Delivery) error {
	return h.request(ctx, ev.GetImage())
}

func (h *Hints) request(ctx context.Context, m *typev1.ImageRef) error {
	image := verdictpb.Ref(m)
	image.Tag = ""
	if err := checkImage(image, true); err != nil {
		return eventbus.Permanent(reasonMalformedEvent, err)
	}
	// The time is ours: that of an event is anybody's word.
	now := h.Now()
	return h.Store.RequestLook(ctx, image, now, now.Add(settleFor))
}

// Looker reads the registry again where hints say that it may have changed, where
// required evidence is missing, and where an image may be gone. One replica does it at
// a time; what is planned is stored.
type Looker struct {
	Evaluator *Evaluator
	// Patience is how long missing evidence is looked for.
	Patience time.Duration
	// Concurrency is the number of looks at a time.
	Concurrency int
	// Holder names this replica.
	Holder string
	Tracer trace.Tracer
}

// Run works until ctx ends.
func (k *Looker) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := k.once(ctx); err != nil && ctx.Err() == nil {
			k.Evaluator.Recorder.log.WarnContext(ctx, "reading registries again was interrupted; it continues in the next round", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// once does the looks that are due now.
func (k *Looker) once(ctx context.Context) error {
	for ctx.Err() == nil {
		now := k.Evaluator.Now()
		mine, err := k.Evaluator.Recorder.Store.Lease(ctx, looksLease, k.Holder, now, leaseFor)
		if err != nil || !mine {
			return err
		}
		due, err := k.Evaluator.Recorder.Store.NextLooks(ctx, now, lookBatch)
		if err != nil || len(due) == 0 {
			return err
		}
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(k.Concurrency)
		for _, l := range due {
			g.Go(func() error { return k.look(gctx, l) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// look does one look and plans the next. The error is that of the store.
func (k *Looker) look(ctx context.Context, l store.Look) error {
	ctx, span := k.Tracer.Start(ctx, "look")
	defer span.End()
	at := k.Evaluator.Now()
	next, err := k.at(ctx, &l, at)
	if err != nil {
		if ctx.Err() != nil {
			return nil // the service stops; the look stays planned
		}
		next = at.Add(delay(retryDelays, l.Attempt))
		l.Attempt++
		since := l.HintTime
		if since.IsZero() || !l.MissingTime.IsZero() && l.MissingTime.Before(since) {
			since = l.MissingTime
		}
		log := k.Evaluator.Recorder.log
		if at.Sub(since) > k.Patience {
			log.WarnContext(ctx, "registry unreadable; giving up reading it again", "image", l.Image.String(), "error", err)
			l.Attempt, l.MissingTime, l.HintTime, next = 0, time.Time{}, at, time.Time{}
		} else {
			log.InfoContext(ctx, "registry unreadable; will read it again later", "image", l.Image.String(), "at", next, "error", err)
		}
	}
	return k.Evaluator.Recorder.Store.FinishLook(ctx, l, at, next)
}

// at looks at what is known of a manifest and returns when to look again, zero for
// never. It changes l into what is known after the look.
func (k *Looker) at(ctx context.Context, l *store.Look, at time.Time) (next time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	s := k.Evaluator.Recorder.Store
	if l.Image.Digest == "" {
		return time.Time{}, k.repository(ctx, l, at)
	}
	known, err := s.Lookup(ctx, []imageref.Ref{l.Image}, at)
	if err != nil {
		return time.Time{}, err
	}
	indexes, err := s.IndexesWith(ctx, l.Image)
	if err != nil {
		return time.Time{}, err
	}
	if !l.HintTime.IsZero() {
		if err := s.RequestLooks(ctx, indexes, l.HintTime, at); err != nil {
			return time.Time{}, err
		}
	}
	switch {
	case known[0] != nil && known[0].Latest != nil:
		return k.image(ctx, l, at)
	case known[0] != nil && at.Sub(l.HintTime) < k.Patience:
		// It is being judged; whether by what the hint is about shows with the verdict.
		return at.Add(store.LookInterval), nil
	case known[0] == nil && len(indexes) == 0:
		return time.Time{}, k.referrer(ctx, l, at)
	default:
		return time.Time{}, nil
	}
}

// repository orders a look at each judged image of a repository, where more was pushed
// than single looks are planned for.
func (k *Looker) repository(ctx context.Context, l *store.Look, at time.Time) error {
	s := k.Evaluator.Recorder.Store
	q := store.ListQuery{Limit: 500, Repository: l.Image.Name(), Now: at}
	for {
		records, err := s.List(ctx, q)
		if err != nil {
			return err
		}
		images := make([]imageref.Ref, len(records))
		for i := range records {
			images[i], q.Before = records[i].Image, records[i].Sequence
		}
		if err := s.RequestLooks(ctx, images, l.HintTime, at); err != nil {
			return err
		}
		if len(records) < q.Limit {
			return nil
		}
	}
}

// image judges an image again.
func (k *Looker) image(ctx context.Context, l *store.Look, at time.Time) (next time.Time, err error) {
	lacking, err := k.Evaluator.rereadUntil(ctx, l.Image, l.Attempt >= certainAfter)
	switch {
	case err == nil:
		l.GoneTime = time.Time{}
	case !saysGone(err):
		return time.Time{}, err
	case l.GoneTime.IsZero() || at.Sub(l.GoneTime) < goneAfter:
		if l.GoneTime.IsZero() {
			l.GoneTime = at
		}
		return at.Add(goneAfter), nil
	default:
		if err := k.Evaluator.Gone(ctx, l.Image, l.GoneTime); err != nil {
			return time.Time{}, err
		}
		lacking = true
	}
	if !lacking {
		l.Attempt, l.MissingTime = 0, time.Time{}
		return time.Time{}, nil
	}
	if l.MissingTime.IsZero() {
		l.MissingTime, l.Attempt = at, 0
	}
	next = at.Add(delay(lookDelays, l.Attempt))
	l.Attempt++
	if next.Sub(l.MissingTime) > k.Patience {
		l.Attempt, l.MissingTime = 0, time.Time{}
		return time.Time{}, nil
	}
	return next, nil
}

// referrer looks what a manifest refers to that is no image of ours, and orders a look
// at that unless its verdict was made with it already.
func (k *Looker) referrer(ctx context.Context, l *store.Look, at time.Time) error {
	r, err := k.Evaluator.Evidence.Referrer(ctx, l.Image)
	if errors.Is(err, evidence.ErrNotFound) || errors.Is(err, evidence.ErrNotAnImage) {
		return nil
	}
	if err != nil || r.Subject == "" || r.Ours {
		return err
	}
	s := k.Evaluator.Recorder.Store
	subject := l.Image.WithDigest(r.Subject)
	about, err := s.IndexesWith(ctx, subject)
	if err != nil {
		return err
	}
	for _, image := range append(about, subject) {
		_, recorded, err := k.Evaluator.judged(ctx, image)
		if err != nil && !errors.Is(err, ErrNotJudged) {
			return err
		}
		if rests(recorded, l.Image.Digest) {
			continue
		}
		if err := s.RequestLook(ctx, image, l.HintTime, at); err != nil {
			return err
		}
	}
	return nil
}

// rests tells whether a verdict was made with an attestation.
func rests(v *verifierv1.Verdict, manifest string) bool {
	for _, p := range v.GetPlatforms() {
		for _, a := range p.GetInputs().GetAttestations() {
			if a.GetManifestDigest() == manifest {
				return true
			}
		}
	}
	return false
}
