package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/obs"
)

const (
	// maxResponseHeader bounds the headers of a response, in bytes.
	maxResponseHeader = 64 << 10
	idleTimeout       = time.Minute
	idlePerHost       = 2
)

// Clients are HTTP clients for subscribers. They follow no redirect and use no proxy.
type Clients struct{ public, private *http.Client }

// NewClients returns clients whose requests end after timeout.
func NewClients(timeout time.Duration, t *obs.Telemetry) (*Clients, error) {
	public, err := newClient(timeout, t, false)
	if err != nil {
		return nil, err
	}
	private, err := newClient(timeout, t, true)
	if err != nil {
		return nil, err
	}
	return &Clients{public: public, private: private}, nil
}

func newClient(timeout time.Duration, t *obs.Telemetry, allowPrivate bool) (*http.Client, error) {
	dialer := &net.Dialer{Timeout: timeout, Control: control(allowPrivate)}
	transport := &http.Transport{
		// No proxy from the environment: only the proxy's address would be checked.
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    timeout,
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: maxResponseHeader,
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

// Client returns the client that reaches public addresses, or private ones too.
func (c *Clients) Client(allowPrivate bool) *http.Client {
	if allowPrivate {
		return c.private
	}
	return c.public
}

// Close ends idle connections.
func (c *Clients) Close() {
	c.public.CloseIdleConnections()
	c.private.CloseIdleConnections()
}

// WithoutURL drops the URL that net/http puts before its errors: it may hold a token,
// and the error is stored and shown.
func WithoutURL(err error) error {
	var urlErr *url.Error
	if !errors.As(err, &urlErr) {
		return err
	}
	if urlErr.Timeout() && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("no response in time: %w", urlErr.Err)
	}
	return urlErr.Err
}

// RetryAfter reads the header of that name, in seconds or as a date (RFC 9110, 10.2.3).
// What cannot be read is 0.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(at.Sub(now), 0)
}
