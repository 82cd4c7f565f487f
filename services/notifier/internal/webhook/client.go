package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/seaworthy-dev/seaworthy/pkg/buildinfo"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
)

const (
	// maxAnswer is how much of an answer is read, so that the connection can be used
	// again. Nothing of it is kept: it could carry what the subscriber's network hides.
	maxAnswer = 64 << 10
	// maxAnswerHeader bounds the headers of an answer, in bytes.
	maxAnswerHeader = 64 << 10
	idleTimeout     = time.Minute
	idlePerHost     = 2
)

// Target is where notifications of a subscription go.
type Target struct {
	URL string
	// Signers sign every attempt; at least one.
	Signers []Signer
	// AllowPrivateNetworks lets it be on loopback or in a private network.
	AllowPrivateNetworks bool
}

// Message is one notification.
type Message struct {
	ID   string
	Body []byte
	// Traceparent is the trace context that the attempt belongs to.
	Traceparent string
}

// Client posts notifications.
type Client struct {
	public, private *http.Client
	propagator      propagation.TextMapPropagator
	now             func() time.Time
}

// NewClient returns a client whose attempts end after timeout.
func NewClient(timeout time.Duration, t *obs.Telemetry, now func() time.Time) (*Client, error) {
	public, err := newHTTPClient(timeout, t, false)
	if err != nil {
		return nil, err
	}
	private, err := newHTTPClient(timeout, t, true)
	if err != nil {
		return nil, err
	}
	return &Client{public: public, private: private, propagator: t.Propagator, now: now}, nil
}

func newHTTPClient(timeout time.Duration, t *obs.Telemetry, allowPrivate bool) (*http.Client, error) {
	dialer := &net.Dialer{Timeout: timeout, Control: guard(allowPrivate)}
	transport := &http.Transport{
		// No proxy from the environment: the guard would see only the proxy's address.
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    timeout,
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: maxAnswerHeader,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        idleTimeout,
		DisableCompression:     true,
	}
	// The path of a subscriber's URL is often its secret, so spans show the origin only.
	traced, err := t.HTTPTransport(transport, obs.HTTPClient{SpanName: func(string) string { return "POST notification" }})
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Timeout:       timeout,
		Transport:     traced,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// Close ends idle connections.
func (c *Client) Close() {
	c.public.CloseIdleConnections()
	c.private.CloseIdleConnections()
}

// Send makes one attempt. The span of the attempt is a child of the message's trace
// context, whatever process made the message.
func (c *Client) Send(ctx context.Context, to Target, m Message) core.Result {
	ctx = c.propagator.Extract(ctx, propagation.MapCarrier{"traceparent": m.Traceparent})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.URL, bytes.NewReader(m.Body))
	if err != nil {
		return core.Result{Err: withoutURL(err)}
	}
	if len(to.Signers) == 0 {
		return core.Result{Err: errors.New("the subscription has no key to sign with")}
	}
	req.Header.Set("Content-Type", ContentType)
	req.Header.Set("User-Agent", "Seaworthy/"+buildinfo.Version())
	setHeaders(req.Header, to.Signers, m.ID, c.now(), m.Body)
	client := c.public
	if to.AllowPrivateNetworks {
		client = c.private
	}
	resp, err := client.Do(req)
	if err != nil {
		return core.Result{Err: withoutURL(err)}
	}
	defer resp.Body.Close()
	// What the subscriber says beyond the status is of no use; failing to read it neither.
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	return core.Result{
		Status:     resp.StatusCode,
		RetryAfter: core.ParseRetryAfter(resp.Header.Get("Retry-After"), c.now()),
	}
}

// withoutURL drops the URL that net/http puts before its errors: it may hold a
// token, and the error is stored and shown.
func withoutURL(err error) error {
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		if urlErr.Timeout() {
			return fmt.Errorf("no answer in time: %w", urlErr.Err)
		}
		return urlErr.Err
	}
	return err
}
