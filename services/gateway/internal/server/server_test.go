package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/server"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/webhook"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/webhook/distribution"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret = "a-secret-of-the-registry-32-bytes"
	path   = "/webhooks/v1/distribution/main"
)

// recorder is a publisher that keeps what it was given.
type recorder struct {
	mu     sync.Mutex
	pushes []core.Push
	hints  []core.Hint
	spans  []trace.SpanContext
	fail   func(n int) error
	// hold makes Publish wait; entered says that it does.
	hold, entered chan struct{}
}

func (p *recorder) Publish(ctx context.Context, _ string, push core.Push) error {
	p.mu.Lock()
	n := len(p.pushes)
	p.mu.Unlock()
	if p.hold != nil {
		p.entered <- struct{}{}
		select {
		case <-p.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if p.fail != nil {
		if err := p.fail(n); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pushes = append(p.pushes, push)
	p.spans = append(p.spans, trace.SpanContextFromContext(ctx))
	return nil
}

func (p *recorder) Hint(_ context.Context, _ string, h core.Hint) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		if err := p.fail(len(p.pushes) + len(p.hints)); err != nil {
			return err
		}
	}
	p.hints = append(p.hints, h)
	return nil
}

type fixture struct {
	*recorder
	url string
	tel *obs.Telemetry
	now time.Time
	err error
}

func start(t *testing.T, change func(*server.Config)) *fixture {
	t.Helper()
	cfg := server.Config{
		MaxBody: 4096, Limits: webhook.DefaultLimits(), MaxConcurrent: 8,
		HeaderTimeout: 5 * time.Second, BodyTimeout: 5 * time.Second, PublishTimeout: 5 * time.Second,
		RetryAfter: 7 * time.Second,
		Sources: []server.Source{
			{Name: "main", Kind: "distribution", Secret: secret, Registry: "registry.example:5000", RequestsPerSecond: 1000, Burst: 1000},
			{Name: "slow", Kind: "distribution", Secret: "another-secret-of-a-registry", Registry: "slow.example", RequestsPerSecond: 0.5, Burst: 1},
		},
	}
	if change != nil {
		change(&cfg)
	}
	f := &fixture{recorder: &recorder{}, tel: obs.Discard("gateway"), now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
	s, err := server.New(cfg, server.Deps{
		Adapters:  map[string]webhook.Adapter{"distribution": distribution.Adapter{}},
		Publisher: f.recorder, Ready: func() error { return f.err }, Telemetry: f.tel,
		IsOwnArtifact: func(_, _, tag string) bool { return strings.HasPrefix(tag, "sha256-") },
		Now:           func() time.Time { return f.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(nil)
	web.Config = s.HTTPServer()
	web.Start()
	t.Cleanup(web.Close)
	f.url = web.URL
	return f
}

func event(id, tag string) string {
	return fmt.Sprintf(`{"id":%q,"action":"push","target":{"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
		`"repository":"team/app","tag":%q,"digest":"sha256:%064d"},"request":{"host":"evil.example"}}`, id, tag, 7)
}

func envelope(events ...string) string { return `{"events":[` + strings.Join(events, ",") + `]}` }

type request struct {
	method, path, body, host string
	header                   map[string]string
}

func (f *fixture) do(t *testing.T, r request) *http.Response {
	t.Helper()
	if r.method == "" {
		r.method = http.MethodPost
	}
	if r.path == "" {
		r.path = path
	}
	req, err := http.NewRequestWithContext(t.Context(), r.method, f.url+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = r.host
	req.Header.Set("Content-Type", distribution.MediaType)
	req.Header.Set("Authorization", "Bearer "+secret)
	for k, v := range r.header {
		if v == "" {
			req.Header.Del(k)
		} else {
			req.Header.Set(k, v)
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

type details struct {
	Type, Title, Detail, Instance string
	Status                        int
	TraceID                       string `json:"trace_id"`
}

// wantProblem checks everything that an answer that is no success must have.
func wantProblem(t *testing.T, resp *http.Response, status int, slug string) details {
	t.Helper()
	var d details
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &d); err != nil {
		t.Fatalf("status %d, body %q: %v", resp.StatusCode, body, err)
	}
	if resp.StatusCode != status || d.Status != status || d.Type != "https://seaworthy.dev/problems/"+slug ||
		resp.Header.Get("Content-Type") != "application/problem+json" || d.Title == "" || d.Instance == "" {
		t.Fatalf("status %d, %s %s; want %d %s", resp.StatusCode, resp.Header.Get("Content-Type"), body, status, slug)
	}
	return d
}

func TestWebhook_accepted(t *testing.T) {
	f := start(t, nil)
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	resp := f.do(t, request{
		body:   envelope(event("1", "a"), `{"action":"pull"}`, event("2", "sha256-ab"), event("3", "b")),
		header: map[string]string{"Traceparent": parent, "Content-Type": distribution.MediaType + "; charset=utf-8"},
	})
	var got struct {
		Accepted, Hints, Filtered int
		TraceID                   string `json:"trace_id"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("status %d, %v", resp.StatusCode, err)
	}
	if got.Accepted != 2 || got.Hints != 1 || got.Filtered != 1 || got.TraceID != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("receipt %+v", got)
	}
	var tags []string
	for i, p := range f.pushes {
		tags = append(tags, p.Image.Tag)
		if p.Image.Registry != "registry.example:5000" {
			t.Errorf("registry %q was believed", p.Image.Registry)
		}
		if f.spans[i].TraceID().String() != got.TraceID || !f.spans[i].IsValid() {
			t.Errorf("published in trace %s", f.spans[i].TraceID())
		}
	}
	if diff := cmp.Diff([]string{"a", "b"}, tags); diff != "" {
		t.Error(diff)
	}
}

// A stranger must neither choose the trace that its request is found under nor
// have us record it.
func TestWebhook_traceOfStrangers(t *testing.T) {
	f := start(t, nil)
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	resp := f.do(t, request{
		body:   envelope(event("1", "a")),
		header: map[string]string{"Traceparent": parent, "Authorization": "Bearer wrong"},
	})
	d := wantProblem(t, resp, http.StatusUnauthorized, "unauthorized")
	if d.TraceID == "" || d.TraceID == "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("answered in trace %q", d.TraceID)
	}
}

func TestWebhook_refused(t *testing.T) {
	valid := envelope(event("1", "a"))
	for name, tt := range map[string]struct {
		r      request
		status int
		slug   string
	}{
		"method":            {request{method: "GET"}, 405, "method-not-allowed"},
		"path":              {request{path: "/webhooks/v1/other/main", body: valid}, 404, "not-found"},
		"no credentials":    {request{body: valid, header: map[string]string{"Authorization": ""}}, 401, "unauthorized"},
		"wrong secret":      {request{body: valid, header: map[string]string{"Authorization": "Bearer " + secret + "x"}}, 401, "unauthorized"},
		"empty secret":      {request{body: valid, header: map[string]string{"Authorization": "Bearer "}}, 401, "unauthorized"},
		"basic":             {request{body: valid, header: map[string]string{"Authorization": "Basic " + secret}}, 401, "unauthorized"},
		"other's secret":    {request{body: valid, header: map[string]string{"Authorization": "Bearer another-secret-of-a-registry"}}, 401, "unauthorized"},
		"unknown source":    {request{path: "/webhooks/v1/distribution/nobody", body: valid}, 401, "unauthorized"},
		"no content type":   {request{body: valid, header: map[string]string{"Content-Type": ""}}, 415, "unsupported-media-type"},
		"JSON content type": {request{body: valid, header: map[string]string{"Content-Type": "application/json"}}, 415, "unsupported-media-type"},
		"compressed":        {request{body: valid, header: map[string]string{"Content-Encoding": "gzip"}}, 415, "unsupported-media-type"},
		"large":             {request{body: strings.Repeat(" ", 4097)}, 413, "body-too-large"},
		"not JSON":          {request{body: "hello"}, 400, "invalid-envelope"},
		"no body":           {request{}, 400, "invalid-envelope"},
		"invalid event":     {request{body: envelope(event("1", "a"), event("2", "a:b"))}, 400, "invalid-event"},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, nil)
			resp := f.do(t, tt.r)
			d := wantProblem(t, resp, tt.status, tt.slug)
			if strings.HasPrefix(tt.r.path, "/webhooks/v1/distribution") && d.TraceID == "" {
				t.Error("no trace id")
			}
			if len(f.pushes) > 0 {
				t.Errorf("%d pushes were stored", len(f.pushes))
			}
			if tt.status == 401 && resp.Header.Get("WWW-Authenticate") == "" {
				t.Error("no WWW-Authenticate")
			}
			if tt.status == 400 && d.Detail == "" {
				t.Error("no detail")
			}
		})
	}
}

// An unknown source and a wrong secret must look the same, or names could be probed.
func TestWebhook_unknownSourceLooksLikeWrongSecret(t *testing.T) {
	f := start(t, nil)
	bad := map[string]string{"Authorization": "Bearer nothing"}
	unknown := f.do(t, request{path: "/webhooks/v1/distribution/nobody", header: bad})
	wrong := f.do(t, request{header: bad})
	a, b := wantProblem(t, unknown, 401, "unauthorized"), wantProblem(t, wrong, 401, "unauthorized")
	a.Instance, b.Instance, a.TraceID, b.TraceID = "", "", "", ""
	if diff := cmp.Diff(a, b); diff != "" {
		t.Error(diff)
	}
	unknown.Header.Del("Date")
	wrong.Header.Del("Date")
	unknown.Header.Del("Content-Length")
	wrong.Header.Del("Content-Length")
	if diff := cmp.Diff(unknown.Header, wrong.Header); diff != "" {
		t.Error(diff)
	}
}

func TestWebhook_largeWithoutLength(t *testing.T) {
	f := start(t, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+path,
		io.MultiReader(strings.NewReader(strings.Repeat(" ", 5000)))) // chunked
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", distribution.MediaType)
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	wantProblem(t, resp, 413, "body-too-large")
}

func TestWebhook_notStored(t *testing.T) {
	for name, tt := range map[string]struct {
		err        error
		status     int
		slug       string
		retryAfter string
	}{
		"down":     {fmt.Errorf("x: %w", eventbus.ErrUnavailable), 503, "event-bus-unavailable", "7"},
		"full":     {fmt.Errorf("x: %w", eventbus.ErrFull), 503, "event-bus-full", "7"},
		"deadline": {context.DeadlineExceeded, 503, "event-bus-unavailable", "7"},
		"other":    {errors.New("secret of the inside"), 500, "internal", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, nil)
			// The second of two: 202 would be a lie although the first is stored.
			f.fail = func(n int) error {
				if n == 1 {
					return tt.err
				}
				return nil
			}
			resp := f.do(t, request{body: envelope(event("1", "a"), event("2", "b"))})
			d := wantProblem(t, resp, tt.status, tt.slug)
			if got := resp.Header.Get("Retry-After"); got != tt.retryAfter {
				t.Errorf("Retry-After %q, want %q", got, tt.retryAfter)
			}
			if strings.Contains(d.Title+d.Detail, "inside") {
				t.Error("the cause is shown to the sender")
			}
		})
	}
}

func TestWebhook_publishTimeout(t *testing.T) {
	f := start(t, func(c *server.Config) { c.PublishTimeout = 20 * time.Millisecond })
	f.hold, f.entered = make(chan struct{}), make(chan struct{}, 1)
	wantProblem(t, f.do(t, request{body: envelope(event("1", "a"))}), 503, "event-bus-unavailable")
}

func TestWebhook_tooFast(t *testing.T) {
	f := start(t, nil)
	slow := request{
		path: "/webhooks/v1/distribution/slow", body: envelope(event("1", "a")),
		header: map[string]string{"Authorization": "Bearer another-secret-of-a-registry"},
	}
	if resp := f.do(t, slow); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("status %d", resp.StatusCode)
	}
	resp := f.do(t, slow)
	wantProblem(t, resp, 429, "too-many-requests")
	if got := resp.Header.Get("Retry-After"); got != "2" {
		t.Errorf("Retry-After %q, want 2", got)
	}
	// Somebody without the secret must not use up the source's tokens.
	f.now = f.now.Add(2 * time.Second)
	wantProblem(t, f.do(t, request{path: slow.path, header: map[string]string{"Authorization": "Bearer x"}}), 401, "unauthorized")
	if resp := f.do(t, slow); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("status %d after the wait", resp.StatusCode)
	}
}

func TestWebhook_tooManyAtOnce(t *testing.T) {
	f := start(t, func(c *server.Config) { c.MaxConcurrent = 1 })
	f.hold, f.entered = make(chan struct{}), make(chan struct{}, 1)
	first := make(chan int, 1)
	go func() { first <- f.do(t, request{body: envelope(event("1", "a"))}).StatusCode }()
	<-f.entered // the first is at work and stays so
	resp := f.do(t, request{body: envelope(event("2", "b"))})
	close(f.hold)
	wantProblem(t, resp, 503, "overloaded")
	if resp.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if got := <-first; got != 202 {
		t.Errorf("first: %d", got)
	}
}

func TestWebhook_slowBody(t *testing.T) {
	f := start(t, func(c *server.Config) { c.BodyTimeout = 50 * time.Millisecond })
	conn := dial(t, f)
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: 100\r\n\r\n{", path, secret, distribution.MediaType)
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") || !strings.Contains(string(answer), "problems/body-too-slow") {
		t.Errorf("answer %q", answer)
	}
}

// A stranger who announces a body and never sends it is not waited for: the
// server reads on after an answer, to keep the connection.
func TestWebhook_strangerSendsNoBody(t *testing.T) {
	f := start(t, func(c *server.Config) { c.HeaderTimeout, c.BodyTimeout = 50*time.Millisecond, 50*time.Millisecond })
	for name, head := range map[string]string{
		"wrong secret": "POST " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong\r\nContent-Length: 100\r\n\r\n",
		"another path": "POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
		"health":       "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
	} {
		conn := dial(t, f)
		fmt.Fprint(conn, head)
		if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stayed open", name)
		}
	}
}

func TestWebhook_slowHeaders(t *testing.T) {
	f := start(t, func(c *server.Config) { c.HeaderTimeout = 50 * time.Millisecond })
	conn := dial(t, f)
	fmt.Fprint(conn, "POST /webhooks")
	if _, err := io.ReadAll(conn); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return // reset is as good as closed
	} else if err != nil {
		t.Fatal("the connection stayed open")
	}
}

func TestWebhook_cutBody(t *testing.T) {
	f := start(t, nil)
	conn := dial(t, f)
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: 100\r\n\r\n{", path, secret, distribution.MediaType)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(conn)
	if !strings.Contains(string(answer), "problems/body-incomplete") {
		t.Errorf("answer %q", answer)
	}
}

func dial(t *testing.T, f *fixture) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

func TestHealth(t *testing.T) {
	f := start(t, nil)
	for _, p := range []string{"/healthz", "/readyz"} {
		if resp := f.do(t, request{method: "GET", path: p}); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", p, resp.StatusCode)
		}
	}
	f.err = errors.New("nats at 10.0.0.1 is away")
	resp := f.do(t, request{method: "GET", path: "/readyz"})
	if d := wantProblem(t, resp, 503, "not-ready"); strings.Contains(d.Detail, "10.0.0.1") {
		t.Error("the inside is shown")
	}
	if resp := f.do(t, request{method: "GET", path: "/healthz"}); resp.StatusCode != http.StatusOK {
		t.Errorf("alive although not ready: %d", resp.StatusCode)
	}
}

func TestMetrics(t *testing.T) {
	f := start(t, nil)
	f.do(t, request{body: envelope(event("1", "a"), `{"action":"pull"}`, event("2", "sha256-ab"))})
	f.do(t, request{body: "x"})
	f.do(t, request{path: "/webhooks/v1/distribution/" + strings.Repeat("n", 500)})
	families, err := f.tel.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "seaworthy_gateway_") {
			continue
		}
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				if l.GetName() == "reason" || l.GetName() == "source" {
					labels = append(labels, l.GetValue())
				}
			}
			got[family.GetName()+" "+strings.Join(labels, ",")+" "+strconv.Itoa(int(m.GetCounter().GetValue()))] = true
		}
	}
	want := map[string]bool{
		"seaworthy_gateway_pushes_accepted_total main 1":                   true,
		"seaworthy_gateway_events_filtered_total action,main 1":            true,
		"seaworthy_gateway_hints_accepted_total main 1":                    true,
		"seaworthy_gateway_requests_refused_total invalid-envelope,main 1": true,
		"seaworthy_gateway_requests_refused_total unauthorized, 1":         true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
