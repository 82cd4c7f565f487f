package registry

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a registry in process with a wrapper in front of it.
type fixture struct {
	host string
	mu   sync.Mutex
	wrap func(w http.ResponseWriter, r *http.Request, next http.Handler)
	// requests are the methods and paths that came in.
	requests []string
}

func (f *fixture) ServeHTTP(w http.ResponseWriter, r *http.Request, next http.Handler) {
	f.mu.Lock()
	f.requests = append(f.requests, r.Method+" "+r.URL.RequestURI())
	wrap := f.wrap
	f.mu.Unlock()
	if wrap != nil {
		wrap(w, r, next)
		return
	}
	next.ServeHTTP(w, r)
}

func (f *fixture) intercept(wrap func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wrap = wrap
}

func (f *fixture) count(substring string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, r := range f.requests {
		if strings.Contains(r, substring) {
			n++
		}
	}
	return n
}

func newFixture(t *testing.T, referrers bool) *fixture {
	t.Helper()
	next := ggcr.New(ggcr.WithReferrersSupport(referrers), ggcr.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)))
	f := &fixture{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.ServeHTTP(w, r, next) }))
	t.Cleanup(s.Close)
	f.host = strings.TrimPrefix(s.URL, "http://")
	return f
}

func (f *fixture) client(t *testing.T, change ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{Registries: []Host{{Host: f.host, Insecure: true}}}
	for _, c := range change {
		c(&cfg)
	}
	c, err := New(cfg, obs.Discard("test"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// recordSleeps makes c wait for nothing and tells what it would have waited for.
func recordSleeps(c *Client) *[]time.Duration {
	var slept []time.Duration
	var mu sync.Mutex
	c.sleep = func(ctx context.Context, d time.Duration) error {
		mu.Lock()
		defer mu.Unlock()
		slept = append(slept, d)
		return ctx.Err()
	}
	return &slept
}

func (f *fixture) repo() imageref.Ref { return imageref.Ref{Registry: f.host, Repository: "team/app"} }

const testManifest = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`

// push stores a small manifest under a tag and gives its descriptor.
func (f *fixture) push(t *testing.T, c *Client, tag string) Descriptor {
	t.Helper()
	ref := f.repo()
	ref.Tag = tag
	tgt, err := c.target("push", ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.putBlob(t.Context(), tgt, emptyConfig); err != nil {
		t.Fatal(err)
	}
	if _, err := c.putManifest(t.Context(), tgt, tag, MediaTypeOCIManifest, []byte(testManifest)); err != nil {
		t.Fatal(err)
	}
	return Descriptor{MediaType: MediaTypeOCIManifest, Digest: Digest([]byte(testManifest)), Size: int64(len(testManifest))}
}

func registryError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	io.WriteString(w, `{"errors":[{"code":"`+code+`","message":"`+message+`"}]}`)
}

// listAll is the whole list of referrers.
func listAll(t *testing.T, c *Client, ref imageref.Ref) ([]Descriptor, error) {
	t.Helper()
	l, err := c.Referrers(t.Context(), ref, Filter{})
	if err == nil && (l.Incomplete != nil || len(l.Rejected) > 0) {
		t.Errorf("the list is not whole: %+v", l)
	}
	return l.Referrers, err
}
