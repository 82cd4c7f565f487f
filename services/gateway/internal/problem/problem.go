// Package problem answers requests with RFC 9457 problem details.
package problem

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"
)

// ContentType is the media type of problem details.
const ContentType = "application/problem+json"

// base is the start of every type URI. The URIs are part of the API: clients may
// compare them; README.md of the gateway lists them.
const base = "https://seaworthy.dev/problems/"

// Problem is one kind of answer that is not a success.
type Problem struct {
	// Type is a stable URI that names the kind.
	Type string `json:"type"`
	// Title says the kind in words; the same for every instance.
	Title string `json:"title"`
	// Status is the HTTP status.
	Status int `json:"status"`
	// Detail says what is wrong with this request.
	Detail string `json:"detail,omitempty"`
	// Instance is the path of the request.
	Instance string `json:"instance,omitempty"`
	// TraceID finds the request in logs and traces.
	TraceID string `json:"trace_id,omitempty"`

	retryAfter time.Duration
}

// Kind returns a problem with the type URI of slug.
func Kind(slug string, status int, title string) Problem {
	return Problem{Type: base + slug, Title: title, Status: status}
}

// WithDetail returns a copy that says what is wrong with this request.
func (p Problem) WithDetail(detail string) Problem { p.Detail = detail; return p }

// WithRetryAfter returns a copy that says when to come again.
func (p Problem) WithRetryAfter(d time.Duration) Problem { p.retryAfter = d; return p }

// Slug is the last part of the type URI, for metrics.
func (p Problem) Slug() string { return p.Type[len(base):] }

// Write answers a request. A Retry-After is rounded up to whole seconds, at least one.
func (p Problem) Write(w http.ResponseWriter, instance, traceID string) {
	p.Instance, p.TraceID = instance, traceID
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(p.retryAfter.Seconds()))))
	}
	w.Header().Set("Content-Type", ContentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	// The status is out; a client that went away cannot be told more.
	_ = json.NewEncoder(w).Encode(p)
}
