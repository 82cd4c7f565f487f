package server

import (
	"context"
	"crypto/rand"
	"net/http"

	"golang.org/x/time/rate"

	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/webhook"
)

// Source is a registry that may report pushes.
type Source struct {
	// Name is the last part of the webhook's path, Kind the one before it.
	Name, Kind string
	// Secret is what the registry proves.
	Secret string
	// Registry is the host and optional port that the source may speak for.
	Registry string
	// RequestsPerSecond and Burst bound its requests.
	RequestsPerSecond float64
	Burst             int
}

// source is a Source made ready.
type source struct {
	name, kind string
	secret     webhook.Secret
	limiter    *rate.Limiter
	classifier core.Classifier
}

// sources finds the source of a request.
type sources struct {
	byName map[string]*source
	// decoy is compared with when the name is not known, so that the answer takes
	// as long and says as little as a wrong secret. Nobody knows its secret.
	decoy *source
}

func newSources(list []Source, isOwn func(mediaType, artifactType, tag string) bool) *sources {
	s := &sources{byName: make(map[string]*source, len(list)), decoy: &source{}}
	_, _ = rand.Read(s.decoy.secret[:]) // crypto/rand.Read never fails
	for _, c := range list {
		s.byName[c.Name] = &source{
			name:       c.Name,
			kind:       c.Kind,
			secret:     webhook.NewSecret(c.Secret),
			limiter:    rate.NewLimiter(rate.Limit(c.RequestsPerSecond), c.Burst),
			classifier: core.Classifier{Registry: c.Registry, IsOwnArtifact: isOwn},
		}
	}
	return s
}

// sourceKey is the key of a request's source in its context.
type sourceKey struct{}

// sourceOf returns the source that the request was found to come from, or nil.
func sourceOf(ctx context.Context) *source {
	src, _ := ctx.Value(sourceKey{}).(*source)
	return src
}

// authenticate returns the source that r proves to be, or nil.
func (s *sources) authenticate(r *http.Request, kind string, adapter webhook.Adapter) *source {
	src, known := s.byName[r.PathValue("source")]
	if known = known && src.kind == kind; !known {
		src = s.decoy
	}
	if !adapter.Authenticate(r.Header, src.secret) || !known {
		return nil
	}
	return src
}
