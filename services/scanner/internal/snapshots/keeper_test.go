package snapshots_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/snapshots"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func record(id int) []byte {
	return fmt.Appendf(nil, `{"id":"X-%d","modified":"2024-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"npm","name":"p"},"versions":["1"]}]}`, id)
}

func open(t *testing.T) *store.SQL {
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
	return s
}

func keeper(s store.Store) *snapshots.Keeper {
	return snapshots.New(s, slog.New(slog.DiscardHandler), time.Now, 1000)
}

func imported(t *testing.T, k *snapshots.Keeper, n int, force bool) (core.SnapshotInfo, error) {
	t.Helper()
	b := k.NewBuilder()
	for i := range n {
		if err := b.Add("x", record(i)); err != nil {
			t.Fatal(err)
		}
	}
	return k.Import(t.Context(), b, force)
}

func count(k *snapshots.Keeper) int64 {
	if m := k.Current(); m != nil {
		return m.Info().AdvisoryCount
	}
	return 0
}

// TestReplicas: an import of one replica reaches the other and survives a restart.
func TestReplicas(t *testing.T) {
	s := open(t)
	a, b := keeper(s), keeper(s)
	if a.Current() != nil {
		t.Error("a snapshot out of nowhere")
	}
	if _, err := imported(t, a, 10, false); err != nil {
		t.Fatal(err)
	}
	if err := b.Refresh(t.Context()); err != nil || count(b) != 10 {
		t.Errorf("%d advisories at the other replica, %v", count(b), err)
	}
	// 20 % smaller is allowed, more is not, unless forced. The rule looks at what
	// the fleet has, not at what this replica saw last.
	if _, err := imported(t, a, 8, false); err != nil {
		t.Errorf("20 %% smaller: %v", err)
	}
	var small *snapshots.TooSmallError
	if _, err := imported(t, b, 6, false); !errors.As(err, &small) || small.Have != 8 || small.Got != 6 {
		t.Errorf("25 %% smaller: %v", err)
	}
	if _, err := imported(t, b, 6, true); err != nil || count(b) != 6 {
		t.Errorf("forced: %v", err)
	}
	if restarted := keeper(s); restarted.Refresh(t.Context()) != nil || count(restarted) != 6 {
		t.Errorf("%d advisories after a restart", count(restarted))
	}
}

// TestCorrupt: what cannot be loaded leaves the old one in use, and an import heals it.
func TestCorrupt(t *testing.T) {
	s := open(t)
	k := keeper(s)
	if _, err := imported(t, k, 10, false); err != nil {
		t.Fatal(err)
	}
	if err := s.SetSnapshot(t.Context(), store.StoredSnapshot{Digest: "sha256:0", Content: []byte("broken")}); err != nil {
		t.Fatal(err)
	}
	if err := k.Refresh(t.Context()); err == nil || count(k) != 10 {
		t.Errorf("corrupt snapshot: %v, %d in use", err, count(k))
	}
	if _, err := imported(t, k, 12, false); err != nil || count(k) != 12 {
		t.Errorf("import after that: %v", err)
	}
}

func TestSeed(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"a.json": record(1), "deep/b.json": record(2), "README.md": []byte("no record"), "bad.json": []byte("{"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t)
	k := keeper(s)
	if err := k.Seed(t.Context(), []string{dir}); err != nil || count(k) != 2 || k.Current().Info().RejectedCount != 1 {
		t.Errorf("seed: %v, %d advisories", err, count(k))
	}
	if _, err := imported(t, k, 5, false); err != nil {
		t.Fatal(err)
	}
	later := keeper(s)
	if err := errors.Join(later.Refresh(t.Context()), later.Seed(t.Context(), []string{dir})); err != nil || count(later) != 5 {
		t.Errorf("the seed replaced an import: %v, %d advisories", err, count(later))
	}
	if err := keeper(open(t)).Seed(t.Context(), []string{filepath.Join(dir, "none")}); err == nil {
		t.Error("a seed that does not exist is accepted")
	}
}

// TestShippedSeed: what the shipped configurations name can be used, all of it.
func TestShippedSeed(t *testing.T) {
	k := keeper(open(t))
	if err := k.Seed(t.Context(), []string{"../../../../deploy/advisories"}); err != nil {
		t.Fatal(err)
	}
	if i := k.Current().Info(); i.AdvisoryCount < 20 || i.RejectedCount != 0 {
		t.Errorf("%+v", i)
	}
	findings, _ := k.Current().Match([]core.Package{
		{Name: "org.apache.logging.log4j:log4j-core", Version: "2.14.1", Ecosystem: "Maven"},
		{Name: "golang.org/x/text", Version: "0.3.6", Ecosystem: "Go"},
		{Name: "golang.org/x/text", Version: "0.43.0", Ecosystem: "Go"},
		{Name: "libssl3", SourceName: "openssl", Version: "3.0.11-1~deb12u1", Ecosystem: "Debian:12"},
	})
	got := map[string]bool{}
	for _, f := range findings {
		got[f.ID] = true
		if f.Severity == core.SeverityUnknown || f.CVSSVector == "" || len(f.FixedVersions) == 0 {
			t.Errorf("finding %+v", f)
		}
		if f.ID == "CVE-2021-44228" && (!f.KEV || f.EPSS == 0) {
			t.Errorf("Log4Shell without KEV and EPSS: %+v", f)
		}
	}
	for _, want := range []string{"CVE-2021-44228", "CVE-2022-32149", "CVE-2021-38561", "CVE-2023-5363", "CVE-2024-6119"} {
		if !got[want] {
			t.Errorf("no finding %s", want)
		}
	}
	if len(got) != 5 {
		t.Errorf("findings %v", got)
	}
}

func TestFollow(t *testing.T) {
	s := open(t)
	a, b := keeper(s), keeper(s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Follow(ctx, time.Millisecond) }()
	if _, err := imported(t, a, 3, false); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(10 * time.Second)
	for count(b) != 3 {
		select {
		case <-deadline:
			t.Fatal("the import never arrived")
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("follow: %v", err)
	}
}
