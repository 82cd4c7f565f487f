package webhook_test

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/egress"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/sink/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	hmacKey = []byte("0123456789abcdef0123456789abcdef")
	seed    = []byte("abcdef0123456789abcdef0123456789")
	clock   = time.Unix(1772366400, 0)
)

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func signers(t *testing.T) []webhook.Signer {
	t.Helper()
	shared, err := webhook.ParseSecret("whsec_" + base64.StdEncoding.EncodeToString(hmacKey))
	if err != nil {
		t.Fatal(err)
	}
	private, err := webhook.ParsePrivateKey("whsk_" + base64.StdEncoding.EncodeToString(seed))
	if err != nil {
		t.Fatal(err)
	}
	return []webhook.Signer{shared, private}
}

// sink posts to a URL, on private networks too if allowed.
func sink(t *testing.T, url string, timeout time.Duration, allowPrivate bool, tel *obs.Telemetry) *webhook.Sink {
	t.Helper()
	clients, err := egress.NewClients(timeout, tel)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(clients.Close)
	s, err := webhook.New(url, signers(t), clients.Client(allowPrivate), func() time.Time { return clock })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// send makes an attempt in the trace that the delivery was stored with.
func send(t *testing.T, url string, timeout time.Duration, allowPrivate bool) core.Result {
	t.Helper()
	tel := obs.Discard("notifier")
	ctx := tel.Propagator.Extract(t.Context(), propagation.MapCarrier{"traceparent": traceparent})
	return sink(t, url, timeout, allowPrivate, tel).Deliver(ctx, core.Notification{ID: "dlv_1"}, []byte(`{"a":1}`))
}

func TestSink_request(t *testing.T) {
	var got *http.Request
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer srv.Close()
	if r := send(t, srv.URL+"/hook?token=x", time.Minute, true); r.Outcome != core.Delivered || r.Code != 204 {
		t.Fatalf("%+v", r)
	}
	if got.Method != http.MethodPost || got.Header.Get("Content-Type") != "application/cloudevents+json" ||
		got.Header.Get("webhook-id") != "dlv_1" || got.Header.Get("webhook-timestamp") != strconv.FormatInt(clock.Unix(), 10) {
		t.Errorf("request %v %v", got.Method, got.Header)
	}
	// Verified from the standard, not with our own code.
	signed := "dlv_1." + got.Header.Get("webhook-timestamp") + "." + string(body)
	signatures := strings.Split(got.Header.Get("webhook-signature"), " ")
	if len(signatures) != 2 {
		t.Fatalf("signatures %q", signatures)
	}
	mac := hmac.New(sha256.New, hmacKey)
	mac.Write([]byte(signed))
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); signatures[0] != want {
		t.Errorf("signature %s, want %s", signatures[0], want)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(signatures[1], "v1a,"))
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	if err != nil || !ed25519.Verify(public, []byte(signed), raw) {
		t.Errorf("ed25519 signature %s does not verify: %v", signatures[1], err)
	}
	// Same trace, and a span of its own.
	parts := strings.Split(got.Header.Get("Traceparent"), "-")
	if len(parts) != 4 || parts[1] != "0af7651916cd43dd8448eb211c80319c" || parts[2] == "b7ad6b7169203331" {
		t.Errorf("traceparent %q", got.Header.Get("Traceparent"))
	}
	if got.Header.Get("Baggage") != "" {
		t.Error("baggage leaves the fleet")
	}
}

func TestSink_redirectIsNotFollowed(t *testing.T) {
	hits := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits++
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer srv.Close()
	if r := send(t, srv.URL, time.Minute, true); r.Code != 307 || r.Outcome != core.Retry || !strings.Contains(r.Detail, "redirects are not followed") || hits != 1 {
		t.Errorf("%+v after %d requests", r, hits)
	}
}

func TestSink_retryAfter(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "90")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer srv.Close()
	if r := send(t, srv.URL, time.Minute, true); r.Code != 503 || r.Outcome != core.Retry || r.RetryAfter != 90*time.Second {
		t.Errorf("%+v", r)
	}
}

func TestSink_privateAddressIsRefused(t *testing.T) {
	hits := 0
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits++ }))
	defer srv.Close()
	for _, url := range []string{
		srv.URL,
		strings.Replace(srv.URL, "127.0.0.1", "localhost", 1), // found out only after resolution
		strings.Replace(srv.URL, "127.0.0.1", "[::ffff:127.0.0.1]", 1),
		strings.Replace(srv.URL, "127.0.0.1", "0.0.0.0", 1),
	} {
		r := send(t, url, time.Minute, false)
		if r.Outcome != core.Retry || !strings.Contains(r.Detail, "address not allowed") {
			t.Errorf("%s: %+v", url, r)
		}
	}
	if hits > 0 {
		t.Errorf("%d requests went through", hits)
	}
}

func TestSink_proxyOfEnvironmentIsIgnored(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	if r := send(t, srv.URL, time.Minute, true); r.Outcome != core.Delivered {
		t.Errorf("%+v", r)
	}
}

func TestSink_timeout(t *testing.T) {
	stop := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stop }))
	defer srv.Close()
	defer close(stop)
	r := send(t, srv.URL+"/?token=hidden", 30*time.Millisecond, true)
	if r.Outcome != core.Retry || !strings.HasPrefix(r.Detail, "no response in time") || strings.Contains(r.Detail, "hidden") {
		t.Errorf("%+v", r)
	}
}

func TestSink_endlessAnswer(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	}))
	defer srv.Close()
	if r := send(t, srv.URL, time.Minute, true); r.Outcome != core.Delivered {
		t.Errorf("%+v", r)
	}
}

func TestSink_gone(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }))
	defer srv.Close()
	if r := send(t, srv.URL, time.Minute, true); r.Outcome != core.Gone || r.Detail != "status 410" {
		t.Errorf("%+v", r)
	}
}

func TestNew_neverUnsigned(t *testing.T) {
	if _, err := webhook.New("http://127.0.0.1:1", nil, http.DefaultClient, time.Now); err == nil || !strings.Contains(err.Error(), "no key") {
		t.Errorf("error %v", err)
	}
}
