package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

// Failures of a refresh; every other one is a registry that does not answer.
var (
	// ErrNotJudged: the image has no verdict.
	ErrNotJudged = errors.New("the image has no verdict")
	// ErrGone: the registry has no such image.
	ErrGone = errors.New("the registry has no such image")
	// ErrRefused: the registry cannot be read.
	ErrRefused = errors.New("the registry cannot be read")
)

// Reasons of refreshes that failed.
const (
	ReasonNotJudged         = "IMAGE_NOT_JUDGED"
	ReasonImageNotFound     = "IMAGE_NOT_FOUND"
	ReasonRefreshedRecently = "REFRESHED_RECENTLY"
	ReasonTooManyRefreshes  = "TOO_MANY_REFRESHES"
)

const (
	// refreshEvery is the least time between two refreshes of an image.
	refreshEvery = 10 * time.Second
	// refreshAtOnce bounds the refreshes under way.
	refreshAtOnce = 4
	// refreshTimeout bounds one.
	refreshTimeout = time.Minute
)

// Refresher limits how often images are judged again because somebody asks. It is safe
// for concurrent use.
type Refresher struct {
	refresh func(context.Context, imageref.Ref) error
	now     func() time.Time
	slots   chan struct{}

	mu sync.Mutex
	// last holds when images were refreshed, for refreshEvery: as many as can be in
	// that time.
	last map[imageref.Ref]time.Time
}

// NewRefresher returns a refresher over what reads and judges an image.
func NewRefresher(refresh func(context.Context, imageref.Ref) error, now func() time.Time) *Refresher {
	return &Refresher{refresh: refresh, now: now, slots: make(chan struct{}, refreshAtOnce), last: map[imageref.Ref]time.Time{}}
}

// Refresh judges an image again.
func (r *Refresher) Refresh(ctx context.Context, image imageref.Ref) error {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	default:
		return apierr.New(codes.ResourceExhausted, ReasonTooManyRefreshes, "too many refreshes are under way").WithRetryAfter(time.Second)
	}
	if wait := r.admit(image); wait > 0 {
		return apierr.New(codes.ResourceExhausted, ReasonRefreshedRecently, "the image was refreshed moments ago").WithRetryAfter(wait)
	}
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	err := r.refresh(ctx, image)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotJudged):
		return apierr.New(codes.NotFound, ReasonNotJudged, "the image has no verdict: push it or scan it first").WithCause(err)
	case errors.Is(err, ErrGone):
		return apierr.New(codes.NotFound, ReasonImageNotFound, "the registry has no such image").WithCause(err)
	case errors.Is(err, ErrRefused):
		return apierr.New(codes.FailedPrecondition, ReasonRegistryRefused,
			"the verifier may not read this image: see registry.registries of its configuration").WithCause(err)
	default:
		r.forget(image) // it may be tried again
		return apierr.New(codes.Unavailable, ReasonRegistryUnavailable, "the evidence cannot be read now; the verdict stays").WithCause(err)
	}
}

// admit notes a refresh, or returns how long to wait for one.
func (r *Refresher) admit(image imageref.Ref) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	for i, at := range r.last {
		if now.Sub(at) >= refreshEvery {
			delete(r.last, i)
		}
	}
	if at, ok := r.last[image]; ok {
		return at.Add(refreshEvery).Sub(now)
	}
	r.last[image] = now
	return 0
}

func (r *Refresher) forget(image imageref.Ref) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.last, image)
}

// RefreshVerdict implements VerdictService.
func (s *Verdicts) RefreshVerdict(ctx context.Context, req *verifierv1.RefreshVerdictRequest) (*verifierv1.RefreshVerdictResponse, error) {
	ref, err := checkRequest(req.GetImage())
	if err != nil {
		return nil, err
	}
	if ref.Registry == "" || ref.Repository == "" {
		return nil, apierr.InvalidField("image", "registry and repository are needed")
	}
	q, err := checkQuestion(&verifierv1.GetVerdictRequest{Environment: req.GetEnvironment()}, verifierv1.VerdictView_VERDICT_VIEW_FULL, ref)
	if err != nil {
		return nil, err
	}
	if ref.Digest == "" {
		if ref, err = s.digestOf(ctx, ref, req.GetResolve()); err != nil {
			return nil, err
		}
	}
	ref.Tag = ""
	if err := s.refresher.Refresh(ctx, ref); err != nil {
		return nil, err
	}
	v, err := s.lookup(ctx, ref, q.environment)
	if err != nil {
		return nil, err
	}
	return &verifierv1.RefreshVerdictResponse{Verdict: v}, nil
}

// digestOf gives an image the digest that its tag had at the last push, or has in the
// registry.
func (s *Verdicts) digestOf(ctx context.Context, ref imageref.Ref, resolve bool) (imageref.Ref, error) {
	if resolve {
		return s.resolver.Resolve(ctx, ref)
	}
	tags, err := s.store.ResolveTags(ctx, []imageref.Ref{ref})
	if err != nil {
		return imageref.Ref{}, err
	}
	if tags[0] == nil || tags[0].Digest == "" {
		return imageref.Ref{}, apierr.New(codes.NotFound, ReasonNotJudged, "the tag has no verdict: push it or scan it first")
	}
	return ref.WithDigest(tags[0].Digest), nil
}
