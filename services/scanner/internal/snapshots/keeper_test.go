package snapshots_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/snapshots"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/snapshots/snapshotstest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func record(id int) []byte {
	return fmt.Appendf(nil, `{"id":"X-%d","modified":"2024-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"npm","name":"p"},"versions":["1"]}]}`, id)
}

func open(t *testing.T) fixture {
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
	return fixture{s, &snapshotstest.Memory{}}
}

func files(t *testing.T, dir string) *snapshots.Files {
	t.Helper()
	f, err := snapshots.OpenFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// fixture is a store and what is shared of replicas.
type fixture struct {
	*store.SQL
	*snapshotstest.Memory
}

func keeper(t *testing.T, f fixture) *snapshots.Keeper {
	t.Helper()
	return snapshots.New(f, files(t, t.TempDir()), f.Memory, slog.New(slog.DiscardHandler), time.Now, 1000)
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
	a, b := keeper(t, s), keeper(t, s)
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
	if restarted := keeper(t, s); restarted.Refresh(t.Context()) != nil || count(restarted) != 6 {
		t.Errorf("%d advisories after a restart", count(restarted))
	}
}

// TestCorrupt: what cannot be loaded leaves the old one in use, and an import heals it.
func TestCorrupt(t *testing.T) {
	s := open(t)
	k := keeper(t, s)
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

// TestFiles: a damaged file is fetched again, an old one is removed after a while, and
// a restart needs nothing but the file.
func TestFiles(t *testing.T) {
	s, dir := open(t), t.TempDir()
	now := time.Now()
	start := func() *snapshots.Keeper {
		return snapshots.New(s, files(t, dir), s.Memory, slog.New(slog.DiscardHandler), func() time.Time { return now }, 1000)
	}
	list := func() []string {
		t.Helper()
		out, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	k := start()
	if _, err := imported(t, k, 10, false); err != nil || len(list()) != 1 {
		t.Fatalf("%v, files %v", err, list())
	}
	first := list()[0]
	content, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-1] ^= 1
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(first, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if again := start(); again.Refresh(t.Context()) != nil || count(again) != 10 {
		t.Errorf("%d advisories with a damaged file", count(again))
	}
	healed, err := os.ReadFile(first)
	content[len(content)-1] ^= 1
	if err != nil || !bytes.Equal(healed, content) {
		t.Errorf("the file is still damaged: %v", err)
	}
	now = now.Add(48 * time.Hour)
	if _, err := imported(t, k, 11, false); err != nil || len(list()) != 1 || list()[0] == first {
		t.Errorf("%v, files %v", err, list())
	}
	if _, err := snapshots.OpenFiles(filepath.Join(list()[0], "no directory")); err == nil {
		t.Error("a directory that cannot be made is accepted")
	}
}

// TestEarlierRelease: what release 0.1 stored is read, and stored as a file of the
// same records.
func TestEarlierRelease(t *testing.T) {
	content, err := os.ReadFile("testdata/release-0.1.zst")
	if err != nil {
		t.Fatal(err)
	}
	const digest = "sha256:54d609d1dfd275fe8e92ddcae420403271585705b8369569c3414059f0df6a9c"
	s := open(t)
	if err := s.SetSnapshot(t.Context(), store.StoredSnapshot{Digest: digest, Count: 2, Content: content}); err != nil {
		t.Fatal(err)
	}
	k := keeper(t, s)
	if err := k.Refresh(t.Context()); err != nil || count(k) != 2 {
		t.Fatalf("%v, %d advisories", err, count(k))
	}
	current, err := s.CurrentSnapshot(t.Context())
	if err != nil || current == digest || current != k.Current().Info().Digest {
		t.Errorf("the store has %s, %v", current, err)
	}
	findings, problems := k.Current().Match([]core.Package{{Name: "p", Version: "1.0.0", Ecosystem: "npm"}})
	if len(findings) != 1 || len(problems) != 0 || !findings[0].KEV || findings[0].EPSS != 0.25 {
		t.Errorf("findings %+v, %v", findings, problems)
	}
	follow(t, k)
	other := keeper(t, s)
	follow(t, other)
	eventually(t, func() bool { return count(other) == 2 })
	content[len(content)/2] ^= 1
	damaged := open(t)
	if err := damaged.SetSnapshot(t.Context(), store.StoredSnapshot{Digest: digest, Content: content}); err != nil {
		t.Fatal(err)
	}
	if err := keeper(t, damaged).Refresh(t.Context()); !errors.Is(err, advisory.ErrCorrupt) {
		t.Errorf("damaged: %v", err)
	}
}

// TestEarlierFormat: a snapshot file of an earlier release is not used and does not keep the service
// from starting; it says what to do, and an import heals it.
func TestEarlierFormat(t *testing.T) {
	s, dir := open(t), t.TempDir()
	k := snapshots.New(s, files(t, dir), s.Memory, slog.New(slog.DiscardHandler), time.Now, 1000)
	info, err := imported(t, k, 10, false)
	if err != nil {
		t.Fatal(err)
	}
	old := bytes.Clone(k.Snapshot().Encode())
	old[8] = 1 // the version of the format
	digest := advisory.DigestOf(old)
	if err := os.WriteFile(filepath.Join(dir, strings.TrimPrefix(digest, "sha256:")+".snapshot"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), digest, old); err != nil {
		t.Fatal(err)
	}
	if err := s.SetSnapshot(t.Context(), store.StoredSnapshot{Digest: digest, Count: 10, Base: info.Digest}); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"with the file": dir, "from another replica": t.TempDir()} {
		var log bytes.Buffer
		k := snapshots.New(s, files(t, dir), s.Memory, slog.New(slog.NewTextHandler(&log, nil)), time.Now, 1000)
		if err := k.Start(t.Context()); err != nil || k.Current() != nil {
			t.Errorf("%s: started with %v, snapshot %v", name, err, k.Current())
		}
		if err := k.Refresh(t.Context()); !errors.Is(err, advisory.ErrOlder) || !strings.Contains(err.Error(), "import the advisories again") || k.Current() != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "with the file" && !strings.Contains(log.String(), "imported again") {
			t.Errorf("%s: it says %q", name, log.String())
		}
	}
	healed := snapshots.New(s, files(t, dir), s.Memory, slog.New(slog.DiscardHandler), time.Now, 1000)
	if _, err := imported(t, healed, 5, false); err != nil || count(healed) != 5 {
		t.Errorf("import: %v, %d advisories", err, count(healed))
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
	k := keeper(t, s)
	if err := k.Seed(t.Context(), []string{dir}); err != nil || count(k) != 2 || k.Current().Info().RejectedCount != 1 {
		t.Errorf("seed: %v, %d advisories", err, count(k))
	}
	if _, err := imported(t, k, 5, false); err != nil {
		t.Fatal(err)
	}
	later := keeper(t, s)
	if err := errors.Join(later.Refresh(t.Context()), later.Seed(t.Context(), []string{dir})); err != nil || count(later) != 5 {
		t.Errorf("the seed replaced an import: %v, %d advisories", err, count(later))
	}
	if err := keeper(t, open(t)).Seed(t.Context(), []string{filepath.Join(dir, "none")}); err == nil {
		t.Error("a seed that does not exist is accepted")
	}
}

// TestShippedSeed: what the shipped configurations name can be used, all of it.
func TestShippedSeed(t *testing.T) {
	k := keeper(t, open(t))
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

// follow lets a keeper follow the others until the test ends.
func follow(t *testing.T, k *snapshots.Keeper) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Follow(ctx, time.Millisecond) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("follow: %v", err)
		}
	})
}

func eventually(t *testing.T, is func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !is() {
		select {
		case <-deadline:
			t.Fatal("it never happened")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestFollow(t *testing.T) {
	s := open(t)
	a, b := keeper(t, s), keeper(t, s)
	follow(t, b)
	if _, err := imported(t, a, 3, false); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return count(b) == 3 })
}

// TestShared: an import that the others cannot get is refused, a seed is given to them
// as soon as that is possible, and what is old is removed.
func TestShared(t *testing.T) {
	s := open(t)
	down := errors.New("down")
	s.SetErr(down)
	a := keeper(t, s)
	if err := a.Seed(t.Context(), []string{"../../../../deploy/advisories"}); err != nil {
		t.Fatal(err)
	}
	if _, err := imported(t, a, 3, true); !errors.Is(err, down) || count(a) < 20 {
		t.Errorf("import while nothing can be shared: %v, %d advisories", err, count(a))
	}
	b := keeper(t, s)
	if err := b.Start(t.Context()); err != nil || count(b) != 0 {
		t.Errorf("start without the file: %v, %d advisories", err, count(b))
	}
	s.SetErr(nil)
	follow(t, a)
	follow(t, b)
	eventually(t, func() bool { return count(b) == count(a) })
	seeded := a.Current().Info().Digest
	for i := range 2 {
		if _, err := imported(t, a, 30+i, true); err != nil {
			t.Fatal(err)
		}
	}
	if has, err := s.Has(t.Context(), seeded); err != nil || has {
		t.Errorf("the snapshot before the last is still there: %v, %v", has, err)
	}
}

// TestFollow_warnsOfTheSecondFailure: that nothing can be shared is no warning at once, as
// the streams of a new installation may still be being made.
func TestFollow_warnsOfTheSecondFailure(t *testing.T) {
	s := open(t)
	s.SetErr(errors.New("down"))
	got := make(sharingFailures, 2)
	k := snapshots.New(s, files(t, t.TempDir()), s.Memory, slog.New(got), time.Now, 1000)
	if err := k.Seed(t.Context(), []string{"../../../../deploy/advisories"}); err != nil {
		t.Fatal(err)
	}
	follow(t, k)
	if first, second := <-got, <-got; first != slog.LevelInfo || second != slog.LevelWarn {
		t.Errorf("logged at %v, then at %v", first, second)
	}
}

// sharingFailures are the levels at which the first failures to share are logged.
type sharingFailures chan slog.Level

func (sharingFailures) Enabled(context.Context, slog.Level) bool { return true }
func (f sharingFailures) WithAttrs([]slog.Attr) slog.Handler     { return f }
func (f sharingFailures) WithGroup(string) slog.Handler          { return f }
func (f sharingFailures) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "advisories cannot be shared") {
		select {
		case f <- r.Level:
		default:
		}
	}
	return nil
}

// TestScoresAreKept: a list of scores that is older or cut does not clear what is known
// of exploitation, however it comes.
func TestScoresAreKept(t *testing.T) {
	kev := func(from, to int, released string) []byte {
		var list []string
		for i := from; i < to; i++ {
			list = append(list, fmt.Sprintf(`{"cveID":"CVE-%d"}`, i))
		}
		return []byte(`{"catalogVersion":"1"` + released + `,"vulnerabilities":[` + strings.Join(list, ",") + `]}`)
	}
	epss := func(n int, date string) []byte {
		out := date + "cve,epss\n"
		for i := range n {
			out += fmt.Sprintf("CVE-%d,0.5\n", i)
		}
		return []byte(out)
	}
	const second, first = `,"dateReleased":"2026-02-02T01:02:03.4567Z"`, `,"dateReleased":"2026-02-01T01:02:03.4567Z"`
	const newer, older = "#model_version:v2025.03.14,score_date:2026-02-02T00:00:00+0000\n", "#model_version:v2025.03.14,score_date:2026-02-01T00:00:00+0000\n"
	s := open(t)
	k := keeper(t, s)
	give := func(k *snapshots.Keeper, kev, epss []byte, force bool) error {
		b := k.NewBuilder()
		if err := b.Add("x", record(1)); err != nil {
			t.Fatal(err)
		}
		if kev != nil {
			if err := b.SetKEV(kev); err != nil {
				t.Fatal(err)
			}
		}
		if epss != nil {
			if err := b.SetEPSS(epss); err != nil {
				t.Fatal(err)
			}
		}
		_, err := k.Import(t.Context(), b, force)
		return err
	}
	exploited := func() (n int) {
		scores, err := k.Current().(*advisory.Snapshot).Scores()
		if err != nil {
			t.Fatal(err)
		}
		for _, score := range scores {
			if score.KEV {
				n++
			}
		}
		return n
	}
	if err := give(k, kev(0, 100, second), epss(100, newer), false); err != nil {
		t.Fatal(err)
	}
	var fewer *advisory.FewerScoresError
	var old *snapshots.OlderScoresError
	for name, c := range map[string]struct {
		kev, epss []byte
		want      any
	}{
		"KEV is cut":             {kev(0, 94, second), nil, &fewer},
		"KEV is replaced":        {kev(100, 300, second), nil, &fewer},
		"KEV is older":           {kev(0, 100, first), nil, &old},
		"KEV has lost its date":  {kev(0, 100, ""), nil, &old},
		"EPSS is cut":            {nil, epss(79, newer), &fewer},
		"EPSS is older":          {nil, epss(100, older), &old},
		"EPSS has lost its date": {nil, epss(100, ""), &old},
		"one of both is too old": {kev(0, 100, second), epss(100, older), &old},
	} {
		// Another replica knows as much.
		for _, k := range []*snapshots.Keeper{k, keeper(t, s)} {
			if err := give(k, c.kev, c.epss, false); err == nil || !errors.As(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if n := exploited(); n != 100 {
		t.Errorf("%d exploited after what was refused", n)
	}
	// A few that are missing stay exploited, until an operator says otherwise.
	if err := give(k, kev(5, 110, second), epss(80, newer), false); err != nil || exploited() != 110 {
		t.Errorf("%d exploited, %v", exploited(), err)
	}
	if err := give(k, nil, nil, false); err != nil || exploited() != 110 {
		t.Errorf("records alone: %d exploited, %v", exploited(), err)
	}
	before := k.Current().(*advisory.Snapshot)
	if err := give(k, kev(0, 10, first), epss(10, older), true); err != nil || exploited() != 10 {
		t.Errorf("forced: %d exploited, %v", exploited(), err)
	}
	less := k.Current().(*advisory.Snapshot)
	if _, err := k.ImportFile(t.Context(), before.Encode(), before.Info().Digest, false); err != nil {
		t.Errorf("a file with more: %v", err)
	}
	if _, err := k.ImportFile(t.Context(), less.Encode(), less.Info().Digest, false); !errors.As(err, &fewer) || exploited() != 110 {
		t.Errorf("a file with fewer: %v", err)
	}
	if _, err := k.ImportFile(t.Context(), less.Encode(), less.Info().Digest, true); err != nil || exploited() != 10 {
		t.Errorf("a file with fewer, forced: %v", err)
	}
}
