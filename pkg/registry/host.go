package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
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
	signed map[string]signedIn // by scope
	// open serves all scopes; nil if the registry was not asked yet or wants tokens.
	open http.RoundTripper
	// tokens is set when the registry was found to want a token for each scope.
	tokens bool
	worked map[access]bool
}

// signedIn is a transport with a token.
type signedIn struct {
	transport http.RoundTripper
	at        time.Time
}

// minTokenAge is how old a token has to be before an answer other than 401 is taken for
// a sign that it expired. No token lives shorter, and a refusal that lasts must not cost
// a token each time.
const minTokenAge = time.Minute

// credentials are read each time they are needed: a rotated secret is seen.
type credentials struct {
	username string
	password config.Secret
}

func (c credentials) Authorization() (*authn.AuthConfig, error) {
	password, err := c.password.Resolve()
	if err != nil {
		return nil, fmt.Errorf("password of the registry: %w", err)
	}
	return &authn.AuthConfig{Username: c.username, Password: password}, nil
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
		auth: authn.Anonymous, agent: userAgent, signed: map[string]signedIn{}, worked: map[access]bool{},
	}
	if cfg.Username != "" {
		if _, err := cfg.Password.Resolve(); err != nil {
			return nil, fmt.Errorf("password of registry %q: %w", cfg.Host, err)
		}
		h.auth = credentials{username: cfg.Username, password: cfg.Password}
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
func (h *host) transport(ctx context.Context, scope string, now time.Time) (http.RoundTripper, error) {
	h.mu.Lock()
	s, ok := h.signed[scope]
	open, tokens := h.open, h.tokens
	h.mu.Unlock()
	switch {
	case ok:
		return s.transport, nil
	case open != nil:
		return open, nil
	case !tokens:
		return h.greet(ctx, scope, now)
	default:
		return h.signIn(ctx, scope, now)
	}
}

// greet finds out how the registry wants its users to sign in.
func (h *host) greet(ctx context.Context, scope string, now time.Time) (http.RoundTripper, error) {
	inner := transport.NewUserAgent(h.base, h.agent)
	challenge, err := transport.Ping(ctx, h.registry, inner)
	if err != nil {
		return nil, err
	}
	if strings.EqualFold(challenge.Scheme, "bearer") {
		h.mu.Lock()
		h.tokens = true
		h.mu.Unlock()
		return h.signIn(ctx, scope, now)
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
func (h *host) signIn(ctx context.Context, scope string, now time.Time) (http.RoundTripper, error) {
	t, err := transport.NewWithContext(ctx, h.registry, h.auth, transport.NewUserAgent(h.base, h.agent), []string{scope})
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.signed) >= maxSignedIn {
		clear(h.signed)
	}
	h.signed[scope] = signedIn{t, now}
	return t, nil
}

// refused drops the way of signing in that the registry or its token service refused, if
// that may be because it is no longer right, and says whether trying again may help. 401
// is what a registry should say; others say 400 or 403 of an expired token.
func (h *host) refused(scope string, failure *Error, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, signedIn := h.signed[scope]
	switch failure.StatusCode {
	case http.StatusUnauthorized:
	case http.StatusBadRequest, http.StatusForbidden:
		if !signedIn || now.Sub(s.at) < minTokenAge && !errors.Is(failure, errSignIn) {
			return false
		}
	default:
		return false
	}
	delete(h.signed, scope)
	h.open, h.tokens = nil, false
	return true
}

// access is what our rights are remembered by.
type access struct {
	scope string
	write bool
}

// allowed notes that the registry let us.
func (h *host) allowed(a access) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.worked) >= maxSignedIn {
		clear(h.worked)
	}
	h.worked[a] = true
}

// errBefore explains why a refusal is taken for a temporary one.
var errBefore = errors.New("it let us before: credentials or rights may be in the middle of a change")

// soften makes a refusal a temporary failure if the registry let us before: what cannot
// be read for the moment must not count as absent or as not readable.
func (h *host) soften(a access, failure *Error) {
	refusal := errors.Is(failure.kind, ErrUnauthorized) || failure.StatusCode == http.StatusBadRequest && !a.write
	h.mu.Lock()
	defer h.mu.Unlock()
	if refusal && h.worked[a] {
		cause := fmt.Errorf("%w: %w", failure.kind, errBefore)
		if failure.cause != nil {
			cause = fmt.Errorf("%w: %w", cause, failure.cause)
		}
		failure.kind, failure.cause = ErrUnavailable, cause
	}
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
