// Package subscriber receives notifications as a subscriber would.
package subscriber

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/seaworthy-dev/seaworthy/tests/internal/gate"
)

// Notification is what a subscriber was told, as far as tests look at it.
type Notification struct {
	WebhookID   string `json:"-"`
	TraceParent string `json:"traceparent"`
	Data        struct {
		Digest  string `json:"digest"`
		State   string `json:"state"`
		TraceID string `json:"trace_id"`
	} `json:"data"`
}

// Subscriber receives notifications behind a gate, so that a test can hold or
// refuse them.
type Subscriber struct {
	*gate.Gate

	mu       sync.Mutex
	received []Notification
}

// Start starts a subscriber that runs until the test ends.
func Start(t *testing.T) *Subscriber {
	t.Helper()
	s := &Subscriber{}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.Gate = gate.New(t, strings.TrimPrefix(server.URL, "http://"))
	return s
}

// ServeHTTP takes one notification.
func (s *Subscriber) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	n := Notification{WebhookID: r.Header.Get("Webhook-Id")}
	if err == nil {
		err = json.Unmarshal(body, &n)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received = append(s.received, n)
}

// Received returns the notifications about an image so far.
func (s *Subscriber) Received(digest string) []Notification {
	s.mu.Lock()
	defer s.mu.Unlock()
	var about []Notification
	for _, n := range s.received {
		if n.Data.Digest == digest {
			about = append(about, n)
		}
	}
	return about
}
