package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// host is one allowed registry with its limits and its signed-in transports.
type host struct {
	name     string
	insecure bool
	registry name.Registry
	auth     authn.Authenticator
	base     http.RoundTripper
	agent    string

	mu     sync.Mutex
	signed map[string]http.RoundTripper // by scope
	// open serves all scopes; nil if the registry was not asked yet or wants tokens.
	open http.RoundTripper
	// tokens is set when the registry was found to want a token for each scope.
	tokens bool
}

// maxSignedIn bounds the transports (and with them the tokens) kept per registry.
const maxSignedIn = 512

func newHost(cfg Host, base http.RoundTripper, userAgent string) (*host, error) {
	opts := []name.Option{name.StrictValidation}
	if cfg.Insecure {
		opts = append(opts, name.Insecure)
	}
	reg, err := name.NewRegistry(cfg.Host, opts...)
	if err != nil {
		return nil, fmt.Errorf("registry %q: %w", cfg.Host, err)
	}
	h := &host{
		name: cfg.Host, insecure: cfg.Insecure, registry: reg,
		auth: authn.Anonymous, agent: userAgent, signed: map[string]http.RoundTripper{},
	}
	if cfg.Username != "" {
		password, err := cfg.Password.Resolve()
		if err != nil {
			return nil, fmt.Errorf("password of registry %q: %w", cfg.Host, err)
		}
		h.auth = &authn.Basic{Username: cfg.Username, Password: password}
	}
	concurrent := int64(cfg.MaxConcurrent)
	if concurrent == 0 {
		concurrent = DefaultMaxConcurrent
	}
	limit, burst := rate.Inf, 1
	if cfg.RequestsPerSecond > 0 {
		limit, burst = rate.Limit(cfg.RequestsPerSecond), max(1, int(cfg.RequestsPerSecond))
	}
	h.base = &guard{
		insecure: cfg.Insecure,
		inner: &limiter{
			slots: semaphore.NewWeighted(concurrent),
			rate:  rate.NewLimiter(limit, burst),
			inner: base,
		},
	}
	return h, nil
}

func (h *host) scheme() string {
	if h.insecure {
		return "http"
	}
	return "https"
}

// transport gives a transport that is signed in for actions on a repository. It
// may ask the registry and its token service: once for all repositories if the
// registry wants no token.
func (h *host) transport(ctx context.Context, scope string) (http.RoundTripper, error) {
	h.mu.Lock()
	t, ok := h.signed[scope]
	open, tokens := h.open, h.tokens
	h.mu.Unlock()
	switch {
	case ok:
		return t, nil
	case open != nil:
		return open, nil
	case !tokens:
		return h.greet(ctx, scope)
	default:
		return h.signIn(ctx, scope)
	}
}

// greet finds out how the registry wants its users to sign in.
func (h *host) greet(ctx context.Context, scope string) (http.RoundTripper, error) {
	inner := transport.NewUserAgent(h.base, h.agent)
	challenge, err := transport.Ping(ctx, h.registry, inner)
	if err != nil {
		return nil, err
	}
	if strings.EqualFold(challenge.Scheme, "bearer") {
		h.mu.Lock()
		h.tokens = true
		h.mu.Unlock()
		return h.signIn(ctx, scope)
	}
	t, err := transport.FromToken(h.registry, h.auth, inner, challenge, &transport.Token{})
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = t
	return t, nil
}

// signIn gets a token for the scope.
func (h *host) signIn(ctx context.Context, scope string) (http.RoundTripper, error) {
	t, err := transport.NewWithContext(ctx, h.registry, h.auth, transport.NewUserAgent(h.base, h.agent), []string{scope})
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.signed) >= maxSignedIn {
		clear(h.signed)
	}
	h.signed[scope] = t
	return t, nil
}

// forget drops a transport whose way of signing in is no longer right, for
// example because the registry came back with another configuration.
func (h *host) forget(scope string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.signed, scope)
	h.open, h.tokens = nil, false
}

var errPlainHTTP = errors.New("refusing plain http for a registry that is not configured as insecure")

// guard keeps requests on the scheme the configuration says. The library below
// tries https before http, and falls back to http for loopback and private
// addresses; here the operator decides.
type guard struct {
	insecure bool
	inner    http.RoundTripper
}

func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !g.insecure {
		return nil, errPlainHTTP
	}
	if r.URL.Scheme == "https" && g.insecure && r.URL.Path == "/v2/" {
		return nil, errInsecure
	}
	resp, err := g.inner.RoundTrip(r)
	if err == nil {
		noteRetryAfter(r.Context(), resp.Header.Get("Retry-After"))
	}
	return resp, err
}

var errInsecure = errors.New("registry is configured as insecure: https is not tried")

// errNoTurn: our own limits leave no room before the deadline.
var errNoTurn = errors.New("no turn at the registry in time")

// limiter bounds rate and number of requests. A slot is held until the body of
// the answer is closed.
type limiter struct {
	slots *semaphore.Weighted
	rate  *rate.Limiter
	inner http.RoundTripper
}

func (l *limiter) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := l.rate.Wait(r.Context()); err != nil {
		return nil, fmt.Errorf("%w: rate limit: %w", errNoTurn, errors.Join(err, context.Cause(r.Context())))
	}
	if err := l.slots.Acquire(r.Context(), 1); err != nil {
		return nil, fmt.Errorf("%w: concurrent requests: %w", errNoTurn, err)
	}
	release := sync.OnceFunc(func() { l.slots.Release(1) })
	resp, err := l.inner.RoundTrip(r)
	if err != nil {
		release()
		return nil, err
	}
	resp.Body = &releasingBody{ReadCloser: resp.Body, release: release}
	return resp, nil
}

type releasingBody struct {
	io.ReadCloser
	release func()
}

func (b *releasingBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}
