package server

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/lru"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
)

// Reasons of a tag that the registry does not tell.
const (
	ReasonTagNotFound         = "TAG_NOT_FOUND"
	ReasonRegistryRefused     = "REGISTRY_REFUSED"
	ReasonRegistryUnavailable = "REGISTRY_UNAVAILABLE"
)

const (
	// resolvedFor is how long what the registry said of a tag is used again.
	resolvedFor = 5 * time.Second
	// resolveTimeout bounds one question to a registry.
	resolveTimeout = 10 * time.Second
	// resolveAtOnce bounds the questions that are asked at a time.
	resolveAtOnce = 16
	// resolvedMemory bounds the tags that are kept, in bytes.
	resolvedMemory = 4 << 20
)

// Resolver asks registries what tags mean. It is safe for concurrent use.
type Resolver struct {
	// ask is Client.Resolve of package registry.
	ask   func(context.Context, imageref.Ref) (registry.Descriptor, error)
	now   func() time.Time
	slots chan struct{}
	kept  *lru.Cache[imageref.Ref, resolved]
}

type resolved struct {
	digest string
	until  time.Time
}

// NewResolver returns a resolver over Client.Resolve of package registry.
func NewResolver(ask func(context.Context, imageref.Ref) (registry.Descriptor, error), now func() time.Time) *Resolver {
	return &Resolver{ask: ask, now: now, slots: make(chan struct{}, resolveAtOnce), kept: lru.New[imageref.Ref, resolved](resolvedMemory, nil)}
}

// Resolve returns the image with the digest that its tag has now, or had a few
// seconds ago.
func (r *Resolver) Resolve(ctx context.Context, image imageref.Ref) (imageref.Ref, error) {
	if k, ok := r.kept.Get(image); ok && r.now().Before(k.until) {
		return image.WithDigest(k.digest), nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return imageref.Ref{}, unavailable(context.Cause(ctx))
	}
	asked := r.now()
	d, err := r.ask(ctx, image)
	switch {
	case err == nil:
	case registry.Temporary(err):
		return imageref.Ref{}, unavailable(err)
	case errors.Is(err, registry.ErrNotFound):
		return imageref.Ref{}, apierr.New(codes.NotFound, ReasonTagNotFound, "the registry has no such tag").WithCause(err)
	case errors.Is(err, registry.ErrNotAllowed), errors.Is(err, registry.ErrUnauthorized), errors.Is(err, registry.ErrInvalidReference):
		return imageref.Ref{}, apierr.New(codes.FailedPrecondition, ReasonRegistryRefused,
			"the verifier may not read this registry: see registry.registries of its configuration").WithCause(err)
	default:
		return imageref.Ref{}, unavailable(err)
	}
	if err := imageref.CheckDigest(d.Digest); err != nil {
		return imageref.Ref{}, unavailable(err)
	}
	r.kept.Put(image, resolved{digest: d.Digest, until: asked.Add(resolvedFor)},
		200+int64(len(image.Registry)+len(image.Repository)+len(image.Tag)))
	return image.WithDigest(d.Digest), nil
}

func unavailable(err error) error {
	return apierr.New(codes.Unavailable, ReasonRegistryUnavailable, "the registry does not say what the tag means; try again or ask by digest").WithCause(err)
}
