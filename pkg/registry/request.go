package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// request is what is asked of a registry; it can be sent several times.
type request struct {
	op     string
	method string
	// path is below /v2/<repository>/; url, if set, is used instead.
	path  string
	query url.Values
	url   *url.URL

	header http.Header
	body   []byte
	// large, if set, is sent instead of body.
	large *Upload
	push  bool
	// remove asks for the right to delete.
	remove bool
	// catalogue asks for the right to list the repositories.
	catalogue bool
	// want are the statuses that count as success.
	want []int
	// stream leaves the body without a time limit; the caller watches it.
	stream bool
	// once leaves trying again to the caller.
	once bool
}

const (
	maxRedirects = 5
	// uploadRate is the slowest upload that is waited for, in bytes per second.
	uploadRate = 256 << 10
)

// send sends r until it succeeds, fails for good or no attempt or time is left.
// The caller closes the body of the answer.
func (c *Client) send(ctx context.Context, t target, r request) (*http.Response, error) {
	refreshed := false
	how := access{scope: t.scope(r), write: r.method != http.MethodGet && r.method != http.MethodHead}
	for attempt := 1; ; attempt++ {
		resp, failure := c.attempt(ctx, t, r)
		if failure == nil {
			t.host.allowed(how)
			return resp, nil
		}
		if !refreshed && t.host.refused(how.scope, failure, c.now()) {
			refreshed = true
			attempt--
			continue
		}
		if r.once || !retryable(failure) || !c.pause(ctx, attempt, failure) {
			t.host.soften(how, failure)
			return nil, failure
		}
	}
}

// pause waits before the next attempt. It says false at once if there may be
// none: none is left, or the wait is longer than the deadline or our patience.
func (c *Client) pause(ctx context.Context, attempt int, failure *Error) bool {
	if attempt >= c.cfg.MaxAttempts || failure.RetryAfter > maxRetryAfter {
		return false
	}
	wait := backoff(attempt, failure.RetryAfter)
	if deadline, ok := ctx.Deadline(); ok && c.now().Add(wait).After(deadline) {
		return false
	}
	return c.sleep(ctx, wait) == nil
}

func retryable(e *Error) bool {
	switch e.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	case 0:
		certificate := new(tls.CertificateVerificationError)
		return errors.Is(e.kind, ErrUnavailable) && !errors.As(e.cause, &certificate) &&
			!errors.Is(e.cause, errNoTurn)
	default:
		return false
	}
}

func (t target) scope(r request) string {
	if r.catalogue {
		return "registry:catalog:*"
	}
	actions := "pull"
	switch {
	case r.remove:
		actions = "delete,pull,push"
	case r.push:
		actions = "pull,push"
	}
	return "repository:" + t.ref.Repository + ":" + actions
}

func (c *Client) attempt(ctx context.Context, t target, r request) (*http.Response, *Error) {
	where := t.ref.Name() + " " + r.path
	cancel := func() {}
	if !r.stream {
		// What is sent gets the time it takes at a modest rate.
		ctx, cancel = context.WithTimeout(ctx, c.cfg.Timeout+time.Duration(r.size()/uploadRate)*time.Second)
	}
	ctx, note := withRetryAfterNote(ctx)
	signed, err := t.host.transport(ctx, t.scope(r), c.now())
	if err != nil {
		cancel()
		return nil, transportError(r.op, where, err, note.duration(c.now()))
	}
	req, err := r.build(ctx, t)
	if err != nil {
		cancel()
		return nil, &Error{Op: r.op, Where: where, kind: ErrInvalidReference, cause: err}
	}
	client := http.Client{Transport: signed, CheckRedirect: checkRedirect}
	resp, err := client.Do(req)
	if err != nil {
		cancel()
		return nil, transportError(r.op, where, err, note.duration(c.now()))
	}
	if !slices.Contains(r.want, resp.StatusCode) {
		failure := statusError(r.op, where, resp, c.now())
		resp.Body.Close()
		cancel()
		return nil, failure
	}
	resp.Body = &cancelingBody{ReadCloser: resp.Body, cancel: cancel}
	return resp, nil
}

var errRedirect = errors.New("registry redirects where it must not")

// checkRedirect follows registries to their storage, but not from a secured
// place to an unsecured one and not for writes.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("%w: more than %d times", errRedirect, maxRedirects)
	}
	last := via[len(via)-1]
	if last.URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("%w: from https to %s", errRedirect, req.URL.Scheme)
	}
	if last.Method != http.MethodGet && last.Method != http.MethodHead {
		return fmt.Errorf("%w: a %s", errRedirect, last.Method)
	}
	return nil
}

// size is how much is sent.
func (r request) size() int64 {
	if r.large != nil {
		return r.large.Size
	}
	return int64(len(r.body))
}

func (r request) build(ctx context.Context, t target) (*http.Request, error) {
	u := r.url
	if u == nil {
		u = &url.URL{
			Scheme: t.host.scheme(), Host: t.host.registry.RegistryStr(),
			Path: "/v2/" + t.ref.Repository + "/" + r.path, RawQuery: r.query.Encode(),
		}
	}
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, err
	}
	if r.large != nil {
		req.Body, req.ContentLength = io.NopCloser(r.large.Reader()), r.large.Size
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(r.large.Reader()), nil }
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	return req, nil
}

type cancelingBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *cancelingBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// readLimited reads at most limit bytes; more is ErrTooLarge.
func readLimited(op, where string, body io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, &Error{Op: op, Where: where, kind: ErrUnavailable, cause: err}
	}
	if int64(len(b)) > limit {
		return nil, &Error{Op: op, Where: where, kind: ErrTooLarge, cause: fmt.Errorf("more than %d bytes", limit)}
	}
	return b, nil
}

// stallGuard cancels a stream that delivers nothing for too long. It counts only
// while somebody reads: a reader that takes its time, because it waits for memory
// or works on what it has, is no fault of the registry.
type stallGuard struct {
	timer   *time.Timer
	timeout time.Duration
}

func newStallGuard(cancel context.CancelCauseFunc, timeout time.Duration) *stallGuard {
	g := &stallGuard{timeout: timeout, timer: time.AfterFunc(timeout, func() { cancel(errStalled) })}
	g.timer.Stop()
	return g
}

var errStalled = errors.New("registry stopped sending")

func (g *stallGuard) start() { g.timer.Reset(g.timeout) }
func (g *stallGuard) stop()  { g.timer.Stop() }
