package obs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
)

// HTTPClient says how the requests of an HTTP client are traced and measured.
type HTTPClient struct {
	// SpanName names the spans.
	SpanName func(method string) string
	// ShowPath shows the path of URLs in spans, and never the query. Without it spans
	// show the origin only.
	ShowPath bool
	// Server is the label server.address of metrics: the configured name of the server.
	// Never the host of a request, which a redirect chooses.
	Server string
	// NotFoundIsAnswer says that clients ask whether something is there: the status 404
	// of a read is then no error.
	NotFoundIsAnswer bool
}

// HTTPTransport traces and measures what next sends. Neither spans nor metrics hold what
// is secret in a URL.
func (t *Telemetry) HTTPTransport(next http.RoundTripper, c HTTPClient) (http.RoundTripper, error) {
	duration, err := t.Meter().Float64Histogram("http.client.request.duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of HTTP client requests."),
		metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60))
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	traced := otelhttp.NewTransport(&httpInner{next: next, client: c, duration: duration},
		otelhttp.WithTracerProvider(t.TracerProvider),
		otelhttp.WithMeterProvider(noop.NewMeterProvider()), // its labels come from URLs
		otelhttp.WithPropagators(t.Propagator),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return c.SpanName(r.Method) }),
	)
	return &httpOuter{traced: traced, next: next, showPath: c.ShowPath}, nil
}

// urlKey holds the URL to send to, while the span is made from one without secrets.
type urlKey struct{}

type httpOuter struct {
	traced, next http.RoundTripper
	showPath     bool
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (o *httpOuter) CloseIdleConnections() {
	if c, ok := o.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (o *httpOuter) RoundTrip(r *http.Request) (*http.Response, error) {
	shown := &url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host}
	if o.showPath {
		shown.Path, shown.RawPath = r.URL.Path, r.URL.RawPath
	}
	inner := r.WithContext(context.WithValue(r.Context(), urlKey{}, r.URL))
	inner.URL = shown
	return o.traced.RoundTrip(inner)
}

type httpInner struct {
	next     http.RoundTripper
	client   HTTPClient
	duration metric.Float64Histogram
}

func (i *httpInner) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	sent := r.WithContext(ctx)
	if u, ok := ctx.Value(urlKey{}).(*url.URL); ok {
		sent.URL = u
	}
	began := time.Now()
	resp, err := i.next.RoundTrip(sent)
	i.duration.Record(ctx, time.Since(began).Seconds(), metric.WithAttributes(i.labels(r.Method, resp, err)...))
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	if err == nil && resp.StatusCode == http.StatusNotFound && read && i.client.NotFoundIsAnswer {
		// The status Ok is final: it stops the instrumentation from calling this an error.
		trace.SpanFromContext(ctx).SetStatus(codes.Ok, "")
	}
	return resp, err
}

// labels have few values, whatever a server answers.
func (i *httpInner) labels(method string, resp *http.Response, err error) []attribute.KeyValue {
	attrs := []attribute.KeyValue{attribute.String("http.request.method", knownMethod(method))}
	if i.client.Server != "" {
		attrs = append(attrs, attribute.String("server.address", i.client.Server))
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return append(attrs, attribute.String("error.type", "timeout"))
	case errors.Is(err, context.Canceled):
		return append(attrs, attribute.String("error.type", "canceled"))
	case err != nil:
		return append(attrs, attribute.String("error.type", "_OTHER"))
	case http.StatusText(resp.StatusCode) == "":
		// Any three digits are a status.
		return append(attrs, attribute.String("error.type", "unknown_status"))
	}
	attrs = append(attrs, attribute.Int("http.response.status_code", resp.StatusCode))
	if resp.StatusCode >= http.StatusBadRequest {
		attrs = append(attrs, attribute.String("error.type", strconv.Itoa(resp.StatusCode)))
	}
	return attrs
}

func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return method
	default:
		return "_OTHER"
	}
}
