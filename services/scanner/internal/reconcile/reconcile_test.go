package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/reconcile"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a registry, a store and a reconciler whose clock the test moves.
type fixture struct {
	t        *testing.T
	host     string
	store    *store.SQL
	r        *reconcile.Reconciler
	now      atomic.Int64
	requests atomic.Int64
	// intercept answers instead of the registry if it returns true.
	intercept atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool]

	mu        sync.Mutex
	submitted []string // tag@digest
	ids       []string
	deleted   []string
	full      bool // the bus takes nothing
	runs      chan outcome
}

type outcome struct {
	counts reconcile.Counts
	err    error
}

func (f *fixture) Submit(_ context.Context, id string, image imageref.Ref, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full {
		return errors.New("the stream is full")
	}
	f.submitted = append(f.submitted, image.Repository+":"+image.Tag+"@"+image.Digest)
	f.ids = append(f.ids, id)
	return nil
}

func (f *fixture) Deleted(_ context.Context, _ string, image imageref.Ref) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deleted = append(f.deleted, image.Repository+"@"+image.Digest)
	return nil
}

func (f *fixture) clock() time.Time { return time.Unix(0, f.now.Load()).UTC() }

func start(t *testing.T, db *sqldb.DB, source reconcile.Source) *fixture {
	t.Helper()
	s, err := store.New(db)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, store: s, runs: make(chan outcome, 100)}
	f.now.Store(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano())
	backing := ggcr.New(ggcr.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.requests.Add(1)
		if i := f.intercept.Load(); i != nil && (*i)(w, r) {
			return
		}
		backing.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	f.host = strings.TrimPrefix(server.URL, "http://")
	client, err := registry.New(registry.Config{Registries: []registry.Host{{Host: f.host, Insecure: true}}, MaxAttempts: 1}, obs.Discard("scanner"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	source.Host = f.host
	f.r = &reconcile.Reconciler{
		Options: reconcile.Options{
			Interval: time.Hour, Timeout: time.Minute, RequestsPerSecond: 1000,
			MaxRepositories: 100, MaxTags: 100, MaxChecks: 100,
		},
		Sources: []reconcile.Source{source}, Registry: client, Store: s, Publisher: f,
		Lock: func(context.Context, string) (func(), error) { return func() {}, nil },
		Done: func(_ context.Context, _ string, c reconcile.Counts, err error) { f.runs <- outcome{c, err} },
		Log:  slog.New(slog.DiscardHandler), Now: f.clock,
	}
	return f
}

// run makes one run, some time after the last.
func (f *fixture) run(later time.Duration) outcome {
	f.t.Helper()
	f.now.Add(int64(later))
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = f.r.Run(ctx) }()
	defer func() { cancel(); <-done }()
	select {
	case o := <-f.runs:
		return o
	case <-time.After(30 * time.Second):
		f.t.Fatal("no run")
		return outcome{}
	}
}

const manifestType = "application/vnd.oci.image.manifest.v1+json"

func (f *fixture) do(method, path, body string) *http.Response {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), method, "http://"+f.host+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Content-Type", manifestType)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp
}

// push stores a manifest under a tag and returns its digest.
func (f *fixture) push(repository, tag, label string) string {
	f.t.Helper()
	body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%064d","size":2},"layers":[],"annotations":{"label":%q}}`, manifestType, 1, label)
	if resp := f.do(http.MethodPut, "/v2/"+repository+"/manifests/"+tag, body); resp.StatusCode != http.StatusCreated {
		f.t.Fatal(resp.Status)
	}
	return registry.Digest([]byte(body))
}

// scanned stores that an image was scanned.
func (f *fixture) scanned(repository, tag, digest string, state store.State) {
	f.t.Helper()
	ctx := f.t.Context()
	image := imageref.Ref{Registry: f.host, Repository: repository, Tag: tag, Digest: digest}
	id := fmt.Sprintf("%s-%s-%s-%d", repository, tag, digest, f.now.Add(1))
	_, err := f.store.CreateScan(ctx, store.Scan{ID: id, Image: image, State: store.Queued, CreateTime: f.clock()})
	if err == nil {
		err = f.store.StartScan(ctx, id, digest)
	}
	if err == nil && state == store.Succeeded {
		err = f.store.FinishScan(ctx, id, nil, f.clock())
	}
	if err == nil && state == store.Failed {
		err = f.store.FailScan(ctx, id, "NOT_AN_IMAGE", "no image", f.clock())
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

func each(t *testing.T, test func(t *testing.T, db *sqldb.DB)) {
	t.Helper()
	sqldbtest.Run(t, "scanner", store.Migrations(), test)
}

func TestReconcile_submitsWhatIsMissing(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		f := start(t, db, reconcile.Source{Catalogue: true})
		known := f.push("team/app", "known", "known")
		f.scanned("team/app", "known", known, store.Succeeded)
		failed := f.push("team/app", "chart", "chart")
		f.scanned("team/app", "chart", failed, store.Failed)
		f.push("team/app", "sha256-"+strings.Repeat("0", 64), "referrers")
		lost := f.push("team/app", "lost", "lost")
		f.scanned("team/app", "moved", known, store.Succeeded)
		moved := f.push("team/app", "moved", "moved")
		other := f.push("other", "latest", "other")
		want := []string{"other:latest@" + other, "team/app:lost@" + lost, "team/app:moved@" + moved}
		o := f.run(0)
		got := slices.Sorted(slices.Values(f.submitted))
		if !slices.Equal(got, want) || o.err != nil || o.counts.Submitted != 3 || o.counts.Repositories != 2 {
			t.Fatalf("%+v, submitted\n%q, want\n%q", o, got, want)
		}
		// Nobody scanned them yet: submitted again they are the same facts.
		f.run(time.Hour)
		if slices.Sort(f.ids); len(slices.Compact(f.ids)) != 3 {
			t.Errorf("ids %q", f.ids)
		}
		f.scanned("team/app", "lost", lost, store.Succeeded)
		f.scanned("team/app", "moved", moved, store.Succeeded)
		f.scanned("other", "latest", other, store.Succeeded)
		if o := f.run(time.Hour); o.counts.Submitted != 0 || len(f.deleted) != 0 {
			t.Errorf("once more: %+v, deleted %q", o, f.deleted)
		}
		// A tag that moves back is another fact than the first time.
		f.push("team/app", "moved", "known")
		f.run(time.Hour)
		if last := f.submitted[len(f.submitted)-1]; last != "team/app:moved@"+known {
			t.Errorf("moved back: %s", last)
		}
	})
}

func TestReconcile_deletedImages(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		f := start(t, db, reconcile.Source{Repositories: []string{"team/app"}})
		stays, goes := f.push("team/app", "stays", "stays"), f.push("team/app", "goes", "goes")
		untagged := f.push("team/app", "untagged", "untagged")
		for tag, digest := range map[string]string{"stays": stays, "goes": goes, "untagged": untagged} {
			f.scanned("team/app", tag, digest, store.Succeeded)
		}
		f.push("team/app", untagged, "untagged")
		for _, reference := range []string{"goes", goes, "untagged"} {
			if resp := f.do(http.MethodDelete, "/v2/team/app/manifests/"+reference, ""); resp.StatusCode != http.StatusAccepted {
				t.Fatal(resp.Status)
			}
		}
		if o := f.run(0); o.err != nil || len(f.deleted) != 0 {
			t.Fatalf("told at the first look: %+v, %q", o, f.deleted)
		}
		if f.run(time.Minute); len(f.deleted) != 0 {
			t.Fatalf("told after a minute: %q", f.deleted)
		}
		f.run(time.Hour)
		f.run(time.Hour)
		if want := []string{"team/app@" + goes}; !slices.Equal(f.deleted, want) || len(f.submitted) != 0 {
			t.Fatalf("deleted %q, want %q; submitted %q", f.deleted, want, f.submitted)
		}
		// It comes back without a webhook.
		f.push("team/app", "goes", "goes")
		f.run(time.Hour)
		if want := []string{"team/app:goes@" + goes}; !slices.Equal(f.submitted, want) {
			t.Errorf("came back: %q, want %q", f.submitted, want)
		}
	})
}

// TestReconcile_outageIsNoDeletion: whatever a registry that is not well answers, its
// images are not told to be deleted.
func TestReconcile_outageIsNoDeletion(t *testing.T) {
	empty := func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "_catalog") {
			io.WriteString(w, `{"repositories":[]}`)
			return true
		}
		return false
	}
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"server errors": func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusInternalServerError)
			return true
		},
		"unavailable": func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		},
		"unauthorized": func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusUnauthorized); return true },
		"forbidden": func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/" {
				return false
			}
			w.WriteHeader(http.StatusForbidden)
			return true
		},
		"another server": func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/" {
				return false
			}
			w.WriteHeader(http.StatusNotFound)
			return true
		},
		"restored empty": func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/" || empty(w, r) {
				return r.URL.Path != "/v2/"
			}
			w.WriteHeader(http.StatusNotFound)
			return true
		},
		"lists empty, nothing there": func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case r.URL.Path == "/v2/":
				return false
			case strings.HasSuffix(r.URL.Path, "/tags/list"):
				io.WriteString(w, `{"tags":[]}`)
			default:
				w.WriteHeader(http.StatusNotFound)
			}
			return true
		},
		"half of it fails": func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case !strings.Contains(r.URL.Path, "/manifests/"):
				return false
			case strings.HasSuffix(r.URL.Path, "/t3"):
				w.WriteHeader(http.StatusInternalServerError)
			default:
				w.WriteHeader(http.StatusNotFound)
			}
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			sqldbtest.Run(t, "scanner", store.Migrations(), func(t *testing.T, db *sqldb.DB) {
				t.Helper()
				f := start(t, db, reconcile.Source{Catalogue: name == "restored empty", Repositories: map[bool][]string{false: {"team/app"}}[name == "restored empty"]})
				for i := range 12 {
					tag := fmt.Sprintf("t%d", i)
					f.scanned("team/app", tag, f.push("team/app", tag, tag), store.Succeeded)
				}
				f.intercept.Store(&answer)
				for range 4 {
					f.run(time.Hour)
				}
				if len(f.deleted) != 0 {
					t.Errorf("%d images were told to be deleted", len(f.deleted))
				}
				f.intercept.Store(nil)
				if o := f.run(time.Hour); o.err != nil || len(f.deleted) != 0 || len(f.submitted) != 0 {
					t.Errorf("afterwards: %+v, deleted %q, submitted %q", o, f.deleted, f.submitted)
				}
			})
		})
	}
}

// TestReconcile_hostileRegistry: lists without end cost a bounded number of requests.
func TestReconcile_hostileRegistry(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		f := start(t, db, reconcile.Source{Catalogue: true})
		n := 0
		answer := func(w http.ResponseWriter, r *http.Request) bool {
			n++
			switch {
			case strings.Contains(r.URL.Path, "_catalog"):
				w.Header().Set("Link", fmt.Sprintf(`</v2/_catalog?last=%d>; rel="next"`, n))
				fmt.Fprintf(w, `{"repositories":["r%da","r%db"]}`, n, n)
			case strings.HasSuffix(r.URL.Path, "/tags/list"):
				w.Header().Set("Link", fmt.Sprintf(`<%s?last=%d>; rel="next"`, r.URL.Path, n))
				fmt.Fprintf(w, `{"tags":["a%d","b%d","c%d"]}`, n, n, n)
			case strings.Contains(r.URL.Path, "/manifests/"):
				w.WriteHeader(http.StatusNotFound)
			default:
				return false
			}
			return true
		}
		f.intercept.Store(&answer)
		f.r.MaxRepositories, f.r.MaxTags = 4, 6
		o := f.run(0)
		if !o.counts.Incomplete || o.counts.Repositories != 4 || o.counts.Tags != 24 || o.err != nil {
			t.Errorf("%+v", o)
		}
		if got := f.requests.Load(); got > 80 {
			t.Errorf("%d requests", got)
		}
	})
}

// TestReconcile_oneFailsOthersGoOn: a registry, and a repository, that fails holds up
// no other.
func TestReconcile_oneFailsOthersGoOn(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		f := start(t, db, reconcile.Source{Repositories: []string{"bad", "good"}})
		good := f.push("good", "v1", "good")
		answer := func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/v2/bad/") {
				w.WriteHeader(http.StatusInternalServerError)
				return true
			}
			return false
		}
		f.intercept.Store(&answer)
		if o := f.run(0); o.counts.Failed != 1 || !slices.Equal(f.submitted, []string{"good:v1@" + good}) {
			t.Errorf("%+v, %q", o, f.submitted)
		}
		f.full = true
		f.scanned("good", "other", good, store.Succeeded)
		if o := f.run(time.Hour); o.err == nil {
			t.Error("an image that could not be submitted is no error")
		}
		if last, err := f.store.Reconciled(t.Context(), f.host); err != nil || last.Equal(f.clock()) {
			t.Errorf("the failed run counts: %v, %v", last, err)
		}
	})
}
