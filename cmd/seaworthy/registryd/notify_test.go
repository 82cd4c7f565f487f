package registryd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// event is what these tests look at in an event.
type event struct {
	ID, Action string
	Target     struct {
		MediaType, Digest, Repository, Tag string
		References                         []struct{ MediaType string }
	}
}

// gateway stands for the gateway: it records events and answers as the test says.
type gateway struct {
	mu     sync.Mutex
	events []event
	answer func(n int) int // status of the n-th request
	n      int
	hold   chan struct{} // if set, answers wait for it
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var envelope struct{ Events []event }
	err := json.NewDecoder(r.Body).Decode(&envelope)
	if err != nil || r.Header.Get("Authorization") != "Bearer secret" ||
		r.Header.Get("Content-Type") != "application/vnd.docker.distribution.events.v2+json" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if g.hold != nil {
		<-g.hold
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n++
	status := http.StatusAccepted
	if g.answer != nil {
		status = g.answer(g.n)
	}
	if status == http.StatusAccepted {
		g.events = append(g.events, envelope.Events...)
	}
	w.WriteHeader(status)
	io.WriteString(w, `{"title":"No","detail":"because"}`)
}

func (g *gateway) stored() []event {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]event(nil), g.events...)
}

// start runs a registry that reports to g, and returns its URL.
func start(t *testing.T, g http.Handler) string {
	t.Helper()
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(t.Context(), Config{Dir: t.TempDir(), Listener: l, NotifyURL: server.URL, NotifySecret: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	r.server.Handler.(*notifying).patience = 300 * time.Millisecond
	r.server.Handler.(*notifying).bodyTimeout = 2 * time.Second
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + r.Addr()
}

// TestPagesAreRefused asks the registry as a page does whose name was rebound to this
// machine, and as a page of another site.
func TestPagesAreRefused(t *testing.T) {
	t.Parallel()
	base := start(t, &gateway{})
	for _, change := range []func(*http.Request){
		func(r *http.Request) { r.Host = "evil.example" },
		func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") },
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/v2/_catalog", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		change(req)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusMisdirectedRequest && res.StatusCode != http.StatusForbidden {
			t.Errorf("%s, %v: %d", req.Host, req.Header, res.StatusCode)
		}
	}
}

func do(t *testing.T, method, url, contentType string, body []byte) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", manifestType)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp
}

const manifestType = "application/vnd.oci.image.manifest.v1+json"

// manifest uploads a config and returns a manifest that has it.
func manifest(t *testing.T, url, repository, label string) (body []byte, dgst string) {
	t.Helper()
	config := []byte(`{"label":"` + label + `"}`)
	sum := digest.FromBytes(config)
	resp := do(t, http.MethodPost, url+"/v2/"+repository+"/blobs/uploads/?digest="+sum.String(), "", nil)
	location := resp.Header.Get("Location")
	separator := "?"
	if strings.Contains(location, "?") {
		separator = "&"
	}
	resp = do(t, http.MethodPut, location+separator+"digest="+sum.String(), "application/octet-stream", config)
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("upload: %s", resp.Status)
	}
	body = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[]}`,
		manifestType, sum, len(config))
	return body, digest.FromBytes(body).String()
}

func TestPushIsAcknowledgedAfterItsEvent(t *testing.T) {
	g := &gateway{hold: make(chan struct{})}
	url := start(t, g)
	body, dgst := manifest(t, url, "team/app", "a")
	answered := make(chan *http.Response, 1)
	go func() { answered <- do(t, http.MethodPut, url+"/v2/team/app/manifests/v1", manifestType, body) }()
	select {
	case resp := <-answered:
		t.Fatalf("acknowledged with %s before the event was stored", resp.Status)
	case <-time.After(200 * time.Millisecond):
	}
	close(g.hold)
	resp := <-answered
	if resp.StatusCode != http.StatusCreated || resp.Header.Get("Docker-Content-Digest") != dgst {
		t.Fatalf("%s, digest %q", resp.Status, resp.Header.Get("Docker-Content-Digest"))
	}
	if resp := do(t, http.MethodPut, url+"/v2/team/app/manifests/"+dgst, manifestType, body); resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.Status)
	}
	// Blobs were pushed and are pulled; neither is worth an event.
	do(t, http.MethodGet, url+"/v2/team/app/manifests/v1", "", nil)
	do(t, http.MethodDelete, url+"/v2/team/app/manifests/"+dgst, "", nil)
	got := g.stored()
	if len(got) != 3 {
		t.Fatalf("%d events, want 3: %+v", len(got), got)
	}
	for i, want := range []struct{ action, tag string }{{"push", "v1"}, {"push", ""}, {"delete", ""}} {
		if e := got[i]; e.Action != want.action || e.Target.Tag != want.tag || e.Target.Digest != dgst || e.Target.Repository != "team/app" {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	if got[0].Target.MediaType != manifestType || len(got[0].Target.References) != 1 ||
		got[0].Target.References[0].MediaType != "application/vnd.oci.image.config.v1+json" {
		t.Errorf("%+v", got[0].Target)
	}
	if got[0].ID == got[1].ID {
		t.Error("two pushes have one id")
	}
}

func TestPushIsNotAcknowledgedWithoutItsEvent(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(n int) int
		want   int
	}{
		"away":           {func(int) int { return http.StatusServiceUnavailable }, http.StatusServiceUnavailable},
		"wrong secret":   {func(int) int { return http.StatusUnauthorized }, http.StatusServiceUnavailable},
		"redirect":       {func(int) int { return http.StatusFound }, http.StatusServiceUnavailable},
		"never a push":   {func(int) int { return http.StatusBadRequest }, http.StatusBadRequest},
		"throttled once": {func(n int) int { return map[bool]int{true: 429, false: 202}[n == 1] }, http.StatusCreated},
	} {
		t.Run(name, func(t *testing.T) {
			g := &gateway{answer: tt.answer}
			url := start(t, g)
			body, _ := manifest(t, url, "team/app", "a")
			resp := do(t, http.MethodPut, url+"/v2/team/app/manifests/v1", manifestType, body)
			if resp.StatusCode != tt.want {
				t.Fatalf("%s, want %d", resp.Status, tt.want)
			}
			if again := resp.Header.Get("Retry-After"); (again != "") != (tt.want == http.StatusServiceUnavailable) {
				t.Errorf("Retry-After %q", again)
			}
			if text, _ := io.ReadAll(resp.Body); tt.want >= 400 && !bytes.Contains(text, []byte(`"errors"`)) {
				t.Errorf("body %s", text)
			}
			if want := map[bool]int{true: 1}[tt.want == http.StatusCreated]; len(g.stored()) != want {
				t.Errorf("%d events stored, want %d", len(g.stored()), want)
			}
		})
	}
}

// A push that is not acknowledged moves no tag, and makes none: the fleet would go on to
// answer with the verdict of what the tag meant before.
func TestTagOfARefusedPushStays(t *testing.T) {
	for name, status := range map[string]int{"away": http.StatusServiceUnavailable, "never a push": http.StatusBadRequest} {
		t.Run(name, func(t *testing.T) {
			g := &gateway{}
			url := start(t, g)
			first, before := manifest(t, url, "team/app", "a")
			if resp := do(t, http.MethodPut, url+"/v2/team/app/manifests/v1", manifestType, first); resp.StatusCode != http.StatusCreated {
				t.Fatal(resp.Status)
			}
			g.mu.Lock()
			g.answer = func(int) int { return status }
			g.mu.Unlock()
			second, pushed := manifest(t, url, "team/app", "b")
			for _, tag := range []string{"v1", "new"} {
				if resp := do(t, http.MethodPut, url+"/v2/team/app/manifests/"+tag, manifestType, second); resp.StatusCode != status {
					t.Errorf("%s: %s", tag, resp.Status)
				}
			}
			// The same manifest again: the tag keeps it.
			if resp := do(t, http.MethodPut, url+"/v2/team/app/manifests/v1", manifestType, first); resp.StatusCode != status {
				t.Error(resp.Status)
			}
			resp := do(t, http.MethodGet, url+"/v2/team/app/manifests/v1", "", nil)
			if got := resp.Header.Get("Docker-Content-Digest"); got != before {
				t.Errorf("the tag means %s, want %s", got, before)
			}
			if resp := do(t, http.MethodGet, url+"/v2/team/app/manifests/new", "", nil); resp.StatusCode != http.StatusNotFound {
				t.Errorf("a tag was made: %s", resp.Status)
			}
			g.mu.Lock()
			g.answer = nil
			g.mu.Unlock()
			resp = do(t, http.MethodPut, url+"/v2/team/app/manifests/v1", manifestType, second)
			if got := resp.Header.Get("Docker-Content-Digest"); resp.StatusCode != http.StatusCreated || got != pushed {
				t.Errorf("repeated: %s, %s", resp.Status, got)
			}
		})
	}
}

// The tag has moved when the event is sent: what the client wrote into a manifest must
// not make an event that the gateway refuses for its size.
func TestEventOfALargeManifestIsSmall(t *testing.T) {
	var largest int64
	g := &gateway{}
	url := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		largest = max(largest, r.ContentLength)
		g.ServeHTTP(w, r)
	}))
	body, dgst := manifest(t, url, "team/app", "a")
	if resp := do(t, http.MethodPut, url+"/v2/team/app/manifests/"+dgst, manifestType, body); resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.Status)
	}
	const indexType = "application/vnd.oci.image.index.v1+json"
	entry := func(more string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d%s}`, manifestType, dgst, len(body), more)
	}
	for name, entries := range map[string]string{
		"annotation":    entry(`,"annotations":{"x":"` + strings.Repeat("<", 3<<20) + `"}`),
		"artifact type": entry(`,"artifactType":"` + strings.Repeat("<", 3<<20) + `"`),
		"many entries":  strings.Repeat(entry("")+",", 15_000) + entry(""),
	} {
		index := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, indexType, entries)
		if resp := do(t, http.MethodPut, url+"/v2/team/app/manifests/v1", indexType, index); resp.StatusCode != http.StatusCreated {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	if got := g.stored(); len(got) != 4 || got[3].Target.Tag != "v1" || len(got[3].Target.References) != 1 || largest > 4<<10 {
		t.Errorf("%d events, the largest of %d bytes", len(got), largest)
	}
}

// TestSlowClientsHoldNobodyUp has more clients than places for writes, which never finish
// sending their manifests.
func TestSlowClientsHoldNobodyUp(t *testing.T) {
	g := &gateway{}
	url := start(t, g)
	var slow sync.WaitGroup
	for range 2 * maxWrites {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "PUT /v2/team/app/manifests/v1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: 100\r\n\r\n{", manifestType)
		slow.Go(func() {
			if _, err := io.ReadAll(conn); err != nil { // ends when the registry has had enough
				t.Error(err)
			}
		})
	}
	body, _ := manifest(t, url, "team/app", "a")
	began := time.Now()
	if resp := do(t, http.MethodPut, url+"/v2/team/app/manifests/v1", manifestType, body); resp.StatusCode != http.StatusCreated {
		t.Errorf("push: %s", resp.Status)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("the push waited %s", took)
	}
	slow.Wait()
	if len(g.stored()) != 1 {
		t.Errorf("%+v", g.stored())
	}
}

func TestRefusedPushHasNoEvent(t *testing.T) {
	g := &gateway{}
	url := start(t, g)
	body, _ := manifest(t, url, "team/app", "a")
	for name, path := range map[string]string{
		"another digest": "/v2/team/app/manifests/sha256:" + strings.Repeat("0", 64),
		"unclean path":   "/v2/team//app/manifests/v1",
		"unknown blob":   "/v2/other/app/manifests/v1",
	} {
		if resp := do(t, http.MethodPut, url+path, manifestType, body); resp.StatusCode < 300 {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	for _, size := range []int{maxManifest + 1, maxManifest + 2} {
		if resp := do(t, http.MethodPut, url+"/v2/team/app/manifests/v1", manifestType, bytes.Repeat([]byte(" "), size)); resp.StatusCode < 400 {
			t.Errorf("too large: %s", resp.Status)
		}
	}
	if len(g.stored()) != 0 {
		t.Errorf("%+v", g.stored())
	}
}

// Of several pushes of a tag at once the last event names what the tag means.
func TestEventsOfATagFollowItsWrites(t *testing.T) {
	g := &gateway{}
	url := start(t, g)
	var bodies [][]byte
	for i := range 12 {
		body, _ := manifest(t, url, "team/app", fmt.Sprint(i))
		bodies = append(bodies, body)
	}
	var wg sync.WaitGroup
	for _, body := range bodies {
		wg.Go(func() {
			if resp := do(t, http.MethodPut, url+"/v2/team/app/manifests/latest", manifestType, body); resp.StatusCode != http.StatusCreated {
				t.Error(resp.Status)
			}
		})
	}
	wg.Wait()
	resp := do(t, http.MethodHead, url+"/v2/team/app/manifests/latest", "", nil)
	got := g.stored()
	if last := got[len(got)-1].Target.Digest; len(got) != len(bodies) || last != resp.Header.Get("Docker-Content-Digest") {
		t.Errorf("%d events, the last names %s, the tag means %s", len(got), last, resp.Header.Get("Docker-Content-Digest"))
	}
}
