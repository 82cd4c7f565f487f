package demo

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/hostguard"
)

// maxNotification bounds what the receiver reads; Standard Webhooks asks senders to
// stay under 20 kB.
const maxNotification = 64 << 10

// notification is what the subscriber of the demo was told.
type notification struct {
	ID          string
	Type        string
	Subject     string
	TraceParent string
	Data        struct {
		Digest string `json:"digest"`
		State  string `json:"state"`
	}
	Verified bool
}

// receiver is the demo's subscriber: an HTTP server of its own that checks the
// Standard Webhooks signature as any subscriber would.
type receiver struct {
	key      []byte
	listener net.Listener
	server   *http.Server
	received chan notification
}

func startReceiver(ctx context.Context) (*receiver, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the demo's subscriber: %w", err)
	}
	r := &receiver{key: make([]byte, 32), listener: listener, received: make(chan notification, 16)}
	if _, err := rand.Read(r.key); err != nil {
		return nil, fmt.Errorf("start the demo's subscriber: %w", err)
	}
	r.server = &http.Server{Handler: hostguard.Handler(http.HandlerFunc(r.serve)), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = r.server.Serve(listener) }() // ends with Close
	return r, nil
}

// URL is where it wants to be told.
func (r *receiver) URL() string { return "http://" + r.listener.Addr().String() + "/seaworthy" }

// Secret is its signing secret in the Standard Webhooks form.
func (r *receiver) Secret() string { return "whsec_" + base64.StdEncoding.EncodeToString(r.key) }

func (r *receiver) Close() error { return r.server.Close() }

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxNotification))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	var n notification
	if err := json.Unmarshal(body, &n); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	n.Verified = r.verify(req.Header, body)
	if !n.Verified {
		w.WriteHeader(http.StatusUnauthorized)
	}
	select {
	case r.received <- n:
	case <-req.Context().Done():
	}
}

func (r *receiver) verify(header http.Header, body []byte) bool {
	mac := hmac.New(sha256.New, r.key)
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", header.Get("Webhook-Id"), header.Get("Webhook-Timestamp"), body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, signature := range strings.Fields(header.Get("Webhook-Signature")) {
		if hmac.Equal([]byte(signature), []byte(want)) {
			return true
		}
	}
	return false
}
