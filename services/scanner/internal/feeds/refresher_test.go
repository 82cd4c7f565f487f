package feeds_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/feeds"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/snapshots"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/snapshots/snapshotstest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func record(id, version string) string {
	return fmt.Sprintf(`{"id":%q,"modified":"2024-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"npm","name":"p"},"versions":[%q]}]}`, id, version)
}

// site is a web server with feeds.
type site struct {
	*httptest.Server
	mu       sync.Mutex
	files    map[string]string
	status   int
	sent     int
	requests int
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{files: map[string]string{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests++
		content, ok := s.files[r.URL.Path]
		if s.status != 0 || !ok {
			http.Error(w, "no", max(s.status, http.StatusNotFound))
			return
		}
		tag := fmt.Sprintf("%q", fmt.Sprint(len(content), content[len(content)-20:]))
		if r.Header.Get("If-None-Match") == strings.ReplaceAll(tag, `\"`, "'") {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", strings.ReplaceAll(tag, `\"`, "'"))
		s.sent++
		_, _ = w.Write([]byte(content))
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *site) set(path, content string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path], s.status = content, status
}

func (s *site) counts() (requests, sent int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests, s.sent
}

// fleet is what replicas share.
type fleet struct {
	store   *store.SQL
	shared  *snapshotstest.Memory
	lock    sync.Mutex
	now     atomic.Int64
	updates atomic.Int64
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.SQLite(t), "scanner")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context(), store.Migrations()); err != nil {
		t.Fatal(err)
	}
	s, err := store.New(db)
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{store: s, shared: &snapshotstest.Memory{}}
	f.now.Store(1_700_000_000)
	return f
}

type replica struct {
	*feeds.Refresher
	keeper   *snapshots.Keeper
	attempts atomic.Int64
	failures atomic.Int64
}

func (f *fleet) replica(t *testing.T, list ...feeds.Feed) *replica {
	t.Helper()
	dir := t.TempDir()
	files, err := snapshots.OpenFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Unix(f.now.Load(), 0).UTC() }
	log := slog.New(slog.DiscardHandler)
	r := &replica{keeper: snapshots.New(f.store, files, f.shared, log, now, 1000)}
	r.Refresher = &feeds.Refresher{
		Options: feeds.Options{Feeds: list, Interval: time.Hour, Timeout: 10 * time.Second, Directory: dir},
		Client:  &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, Store: f.store, Advisories: r.keeper, Log: log, Now: now,
		Lock:    func(context.Context) (func(), error) { f.lock.Lock(); return f.lock.Unlock, nil },
		Updated: func(context.Context, core.SnapshotInfo) error { f.updates.Add(1); return nil },
		Done: func(_ context.Context, _ bool, err error) {
			r.attempts.Add(1)
			if err != nil {
				r.failures.Add(1)
			}
		},
	}
	return r
}

func (r *replica) count() int64 {
	if m := r.keeper.Current(); m != nil {
		return m.Info().AdvisoryCount
	}
	return 0
}

func TestRefresh(t *testing.T) {
	site, f := newSite(t), newFleet(t)
	local := filepath.Join(t.TempDir(), "b.json")
	if err := os.WriteFile(local, []byte(record("B", "1.0.0")), 0o600); err != nil {
		t.Fatal(err)
	}
	site.set("/a.json", record("A", "1.0.0"), 0)
	site.set("/kev", `{"catalogVersion":"1","vulnerabilities":[{"cveID":"A"}]}`, 0)
	list := []feeds.Feed{{Name: "a", URL: site.URL + "/a.json"}, {Name: "b", URL: local}, {Name: "kev", URL: site.URL + "/kev"}}
	r := f.replica(t, list...)
	ctx := t.Context()

	res, err := r.Refresh(ctx, false)
	if err != nil || !res.Changed || r.count() != 2 || len(res.Feeds) != 3 || f.updates.Load() != 1 {
		t.Fatalf("first: %+v, %v", res, err)
	}
	findings, _ := r.keeper.Current().Match([]core.Package{{Name: "p", Version: "1.0.0", Ecosystem: "npm"}})
	if len(findings) != 2 || !findings[0].KEV || findings[1].KEV {
		t.Errorf("findings %+v", findings)
	}
	_, sent := site.counts()
	f.now.Add(60)
	if res, err = r.Refresh(ctx, false); err != nil || res.Changed || f.updates.Load() != 1 {
		t.Errorf("nothing new: %+v, %v", res, err)
	}
	if _, again := site.counts(); again != sent {
		t.Errorf("what did not change was sent again: %d, then %d", sent, again)
	}
	for _, s := range res.Feeds {
		if s.CheckTime.Unix() != f.now.Load() || s.ChangeTime.Unix() != f.now.Load()-60 || s.Error != "" {
			t.Errorf("state %+v", s)
		}
	}

	// What a feed had stays while it fails, and the others go on.
	site.set("/a.json", record("A", "1.0.0"), http.StatusServiceUnavailable)
	if err := os.WriteFile(local, []byte(strings.Replace(record("B", "2.0.0"), "2024", "2025", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	f.now.Add(60)
	if res, err = r.Refresh(ctx, false); err != nil || !res.Changed || r.count() != 2 || !strings.Contains(res.Feeds[0].Error, "503") || res.Feeds[1].Error != "" {
		t.Errorf("one feed fails: %+v, %v", res, err)
	}
	if res.Feeds[0].CheckTime.Unix() == f.now.Load() || res.Feeds[0].TryTime.Unix() != f.now.Load() {
		t.Errorf("state of the failed feed: %+v", res.Feeds[0])
	}

	// A replica that never had it cannot: the snapshot in use stays.
	other := f.replica(t, list...)
	if err := other.keeper.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Refresh(ctx, false); err == nil || other.count() != 2 || other.failures.Load() != 1 {
		t.Errorf("a feed that was never read: %v, %d advisories", err, other.count())
	}
	if known, err := f.store.Feeds(ctx); err != nil || len(known) != 3 || known[0].Error == "" {
		t.Errorf("states %+v, %v", known, err)
	}
}

// TestRefused: what a feed has may be too little, or nothing.
func TestRefused(t *testing.T) {
	site, f := newSite(t), newFleet(t)
	dir := t.TempDir()
	for i := range 10 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.json", i)), []byte(record(fmt.Sprint("A", i), "1")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	large := f.replica(t, feeds.Feed{Name: "a", URL: dir})
	if _, err := large.Refresh(ctx, false); err != nil {
		t.Fatal(err)
	}
	site.set("/a", record("A", "1.0.0"), 0)
	small := f.replica(t, feeds.Feed{Name: "a", URL: site.URL + "/a"})
	var tooSmall *snapshots.TooSmallError
	if _, err := small.Refresh(ctx, false); !errors.As(err, &tooSmall) || small.count() != 10 {
		t.Errorf("much smaller: %v, %d advisories", err, small.count())
	}
	site.set("/a", `{"no":"record at all"}`, 0)
	if _, err := small.Refresh(ctx, true); err == nil || small.count() != 10 {
		t.Errorf("nothing usable: %v", err)
	}
	site.set("/a", record("A", "1.0.0"), 0)
	if res, err := small.Refresh(ctx, true); err != nil || !res.Changed || small.count() != 1 {
		t.Errorf("forced: %v, %d advisories", err, small.count())
	}
	if _, err := f.replica(t).Refresh(ctx, false); !errors.Is(err, feeds.ErrNoFeeds) {
		t.Errorf("no feeds: %v", err)
	}
	if err := f.replica(t).Run(ctx); err != nil {
		t.Errorf("run without feeds: %v", err)
	}
}

// TestOneReplica: of two replicas one asks in each interval.
func TestOneReplica(t *testing.T) {
	site, f := newSite(t), newFleet(t)
	site.set("/a", record("A", "1.0.0"), 0)
	feed := feeds.Feed{Name: "a", URL: site.URL + "/a"}
	a, b := f.replica(t, feed), f.replica(t, feed)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, r := range []*replica{a, b} {
		r.Interval = 2 * time.Second // of the clock of the test, which stands still
		wg.Go(func() {
			if err := r.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	deadline := time.Now().Add(10 * time.Second)
	for a.attempts.Load()+b.attempts.Load() < 1 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond) // real HTTP
	}
	time.Sleep(1200 * time.Millisecond) // both look again
	cancel()
	wg.Wait()
	if requests, _ := site.counts(); requests != 1 || a.attempts.Load()+b.attempts.Load() != 1 {
		t.Errorf("%d requests, %d and %d attempts", requests, a.attempts.Load(), b.attempts.Load())
	}
}

// failing is a store of snapshots that cannot put one in use for a while.
type failing struct {
	*snapshots.Keeper
	left int
}

func (f *failing) Import(ctx context.Context, b *advisory.Builder, force bool) (core.SnapshotInfo, error) {
	if f.left--; f.left >= 0 {
		return core.SnapshotInfo{}, errors.New("the database is away")
	}
	return f.Keeper.Import(ctx, b, force)
}

// TestFailedSwitchIsTriedAgain: a snapshot that could not be put in use is tried again
// after minutes, not after the interval, and less often the longer that lasts.
func TestFailedSwitchIsTriedAgain(t *testing.T) {
	f := newFleet(t)
	file := filepath.Join(t.TempDir(), "a.json")
	if err := os.WriteFile(file, []byte(record("A", "1.0.0")), 0o600); err != nil {
		t.Fatal(err)
	}
	r := f.replica(t, feeds.Feed{Name: "a", URL: file})
	r.Advisories = &failing{Keeper: r.keeper, left: 2}
	for i, want := range []struct {
		after    time.Duration
		attempts int64
		count    int64
	}{
		{0, 1, 0}, {time.Minute, 1, 0}, {time.Minute, 2, 0}, {3 * time.Minute, 2, 0}, {time.Minute, 3, 1}, {30 * time.Minute, 3, 1}, {30 * time.Minute, 4, 1},
	} {
		f.now.Add(int64(want.after / time.Second))
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		if err := r.Run(ctx); err != nil { // looks once
			t.Fatal(err)
		}
		cancel()
		if r.attempts.Load() != want.attempts || r.count() != want.count {
			t.Errorf("step %d: %d attempts and %d advisories, want %d and %d", i, r.attempts.Load(), r.count(), want.attempts, want.count)
		}
	}
}
