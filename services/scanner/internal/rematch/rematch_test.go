package rematch_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/archive"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/rematch"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/snapshots"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/snapshots/snapshotstest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/wire"
)

type publisher struct {
	scans map[string]bool
	err   error
}

func (p *publisher) Publish(_ context.Context, _ string, e *eventv1.ImageScannedEvent) error {
	if p.err == nil {
		if e.GetCause() != eventv1.ImageScannedEvent_CAUSE_ADVISORIES {
			return fmt.Errorf("cause %v", e.GetCause())
		}
		p.scans[e.GetScanId()] = true
	}
	return p.err
}

type fixture struct {
	*rematch.Rematcher
	store     *store.SQL
	archive   *archive.Archive
	keeper    *snapshots.Keeper
	publisher *publisher
	clock     time.Time
	looked    int
}

func files(t *testing.T) *snapshots.Files {
	t.Helper()
	f, err := snapshots.OpenFiles(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func newFixture(t *testing.T, db *sqldb.DB) *fixture {
	t.Helper()
	s, err := store.New(db)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{store: s, publisher: &publisher{scans: map[string]bool{}}, clock: time.Unix(1_700_000_000, 0)}
	now := func() time.Time { f.clock = f.clock.Add(time.Second); return f.clock }
	log := slog.New(slog.DiscardHandler)
	f.archive, f.keeper = archive.New(s, now), snapshots.New(s, files(t), &snapshotstest.Memory{}, log, now, 1000)
	f.Rematcher = &rematch.Rematcher{
		Store: s, Archive: f.archive, Advisories: f.keeper, Publisher: f.publisher, Log: log, Now: now,
		Done: func(context.Context, bool, error) { f.looked++ },
	}
	return f
}

func (f *fixture) importAdvisories(t *testing.T, records map[string]string, kev ...string) {
	t.Helper()
	b := f.keeper.NewBuilder()
	for _, r := range records {
		if err := b.Add("test", []byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	if len(kev) > 0 {
		if err := b.SetKEV([]byte(`{"vulnerabilities":[{"cveID":"` + strings.Join(kev, `"},{"cveID":"`) + `"}]}`)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.keeper.Import(t.Context(), b, true); err != nil {
		t.Fatal(err)
	}
}

// scan is a full scan of an image with the snapshot in use.
func (f *fixture) full(image string, packages []core.Package) *core.Report {
	m := f.keeper.Current()
	findings, problems := m.Match(packages)
	r := &core.Report{
		ImageDigest: image, Packages: packages, Findings: findings, Snapshot: m.Info(), ScannerVersion: "1",
		Problems: append([]string{"inventory problem"}, problems...), InventoryProblems: []string{"inventory problem"},
	}
	r.Sort()
	return r
}

func (f *fixture) scan(t *testing.T, image string, packages []core.Package) {
	t.Helper()
	ref, err := f.archive.Save(t.Context(), f.full(image, packages))
	if err != nil {
		t.Fatal(err)
	}
	id := "scan-" + image
	_, err = f.store.CreateScan(t.Context(), store.Scan{ID: id, Image: place(image), State: store.Running, CreateTime: f.Now()})
	if err = errors.Join(err, f.store.FinishScan(t.Context(), id, []core.ReportRef{ref}, f.Now())); err != nil {
		t.Fatal(err)
	}
}

func place(image string) imageref.Ref {
	return imageref.Ref{Registry: "r.example", Repository: "a", Digest: image}
}

func (f *fixture) newest(t *testing.T, image string) (id string, r *core.Report) {
	t.Helper()
	sc, err := f.store.NewestScan(t.Context(), place(image), true)
	if err != nil {
		t.Fatal(err)
	}
	m, err := f.archive.Report(t.Context(), sc.Reports[0].ReportDigest)
	if err != nil {
		t.Fatal(err)
	}
	return sc.ID, wire.Domain(m)
}

func advisory(id, name, fixed string) string {
	return fmt.Sprintf(`{"id":%q,"aliases":["CVE-%s"],"modified":"2024-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"npm","name":%q},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":%q}]}]}]}`, id, id, name, fixed)
}

// TestEqualsFullScan: after any change of the advisories every image's newest report
// says what a full scan of it would say, an image is published exactly if its report
// differs from before, and only these are looked at.
func TestEqualsFullScan(t *testing.T) {
	sqldbtest.Run(t, "scanner", store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		f := newFixture(t, db)
		rng := rand.New(rand.NewPCG(1, 2))
		name := func() string { return fmt.Sprintf("p%d", rng.IntN(12)) }
		version := func() string { return fmt.Sprintf("%d.0.0", 1+rng.IntN(9)) }
		records := map[string]string{"A-0": advisory("A-0", "p0", "5.0.0")}
		f.importAdvisories(t, records, "CVE-nobody-has")
		images := map[string][]core.Package{}
		for i := range 12 {
			var ps []core.Package
			for range 1 + rng.IntN(3) {
				n, v := name(), version()
				ps = append(ps, core.Package{Name: n, Version: v, Ecosystem: "npm", PURL: "pkg:npm/" + n + "@" + v, Location: "x"})
			}
			image := fmt.Sprintf("sha256:%064d", i)
			images[image] = ps
			f.scan(t, image, ps)
		}
		for round := range 15 {
			var kev []string
			for range 1 + rng.IntN(3) {
				id := fmt.Sprintf("A-%d", rng.IntN(6))
				switch {
				case rng.IntN(4) == 0 && len(records) > 1:
					delete(records, id)
				case rng.IntN(4) == 0:
					kev = append(kev, "CVE-"+id)
				default:
					records[id] = advisory(id, name(), version())
				}
			}
			if len(records) == 0 {
				records["A-0"] = advisory("A-0", "p0", "5.0.0")
			}
			before := map[string]*core.Report{}
			ids := map[string]string{}
			for image := range images {
				ids[image], before[image] = f.newest(t, image)
			}
			f.importAdvisories(t, records, kev...)
			f.publisher.scans = map[string]bool{}
			f.looked = 0
			if err := f.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			differ := 0
			for image, ps := range images {
				want := f.full(image, ps)
				id, got := f.newest(t, image)
				if diff := cmp.Diff(want.Findings, got.Findings); diff != "" || !slices.Equal(want.Problems, got.Problems) {
					t.Fatalf("round %d, %s: (-full scan +rematch)\n%s", round, image, diff)
				}
				changed := !cmp.Equal(before[image].Findings, want.Findings)
				if changed {
					differ++
				}
				if changed != (id != ids[image]) || changed && !f.publisher.scans[id] {
					t.Errorf("round %d, %s: changed %v, scan %s before %s, published %v", round, image, changed, id, ids[image], f.publisher.scans[id])
				}
				if changed && got.Snapshot.Digest != f.keeper.Current().Info().Digest {
					t.Errorf("report names the snapshot %s", got.Snapshot.Digest)
				}
			}
			if f.looked != differ {
				t.Errorf("round %d: %d images looked at, the findings of %d changed", round, f.looked, differ)
			}
		}
		f.looked = 0
		records["B-1"] = advisory("B-1", "nobody has it", "1.0.0")
		f.importAdvisories(t, records)
		if err := f.Drain(t.Context()); err != nil || f.looked != 0 {
			t.Errorf("a change that touches nothing: %d images looked at, %v", f.looked, err)
		}
	})
}

// TestCoverageChanges: a report that says that nobody looked is made again when the
// ecosystem gets its first advisory or loses its last one, although none is about a
// package of the image; and when it becomes known what is exploited.
func TestCoverageChanges(t *testing.T) {
	sqldbtest.Run(t, "scanner", store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		f := newFixture(t, db)
		pypi := `{"id":"P","modified":"2024-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"PyPI","name":"other"},"versions":["1"]}]}`
		npm := advisory("N", "nobody has it", "1.0.0")
		debian := strings.ReplaceAll(pypi, "PyPI", "Debian:12")
		f.importAdvisories(t, map[string]string{"P": pypi})
		image, untouched := "sha256:"+strings.Repeat("0", 64), "sha256:"+strings.Repeat("1", 64)
		f.scan(t, image, []core.Package{{Name: "p", Version: "1.0.0", Ecosystem: "npm", PURL: "pkg:npm/p@1.0.0"}})
		f.scan(t, untouched, []core.Package{{Name: "p", Version: "1.0.0", Ecosystem: "PyPI", PURL: "pkg:pypi/p@1.0.0"}})
		const missing = "the advisories in use have none about npm (1 package)"
		for i, step := range []struct {
			records map[string]string
			kev     []string
			missing bool
			looked  int
		}{
			{map[string]string{"P": pypi, "N": npm}, nil, false, 1},
			{map[string]string{"P": pypi, "N": npm, "D": strings.ReplaceAll(debian, `"P"`, `"D"`)}, nil, false, 0},
			{map[string]string{"P": pypi, "D": strings.ReplaceAll(debian, `"P"`, `"D"`)}, nil, true, 1},
			{map[string]string{"P": pypi, "D": strings.ReplaceAll(debian, `"P"`, `"D"`)}, []string{"CVE-1"}, true, 2},
		} {
			f.looked, f.publisher.scans = 0, map[string]bool{}
			f.importAdvisories(t, step.records, step.kev...)
			if err := f.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			id, r := f.newest(t, image)
			if got := slices.Contains(r.Problems, missing); got != step.missing || f.looked != step.looked || len(f.publisher.scans) != step.looked {
				t.Errorf("step %d: problems %q, %d looked at, published %v (newest %s)", i, r.Problems, f.looked, f.publisher.scans, id)
			}
			if r.Snapshot.ExploitedKnown != (step.kev != nil) {
				t.Errorf("step %d: exploited known: %v", i, r.Snapshot.ExploitedKnown)
			}
		}
	})
}

// TestPublishFails: a bus that is down, or a crash before publishing, loses nothing.
func TestPublishFails(t *testing.T) {
	sqldbtest.Run(t, "scanner", store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		f := newFixture(t, db)
		f.importAdvisories(t, map[string]string{"A": advisory("A", "other", "5.0.0")})
		image := "sha256:" + strings.Repeat("0", 64)
		f.scan(t, image, []core.Package{{Name: "p", Version: "1.0.0", Ecosystem: "npm", PURL: "pkg:npm/p@1.0.0"}})
		f.importAdvisories(t, map[string]string{"A": advisory("A", "p", "5.0.0")})
		f.publisher.err = errors.New("down")
		if err := f.Drain(t.Context()); err != nil || len(f.publisher.scans) != 0 {
			t.Fatalf("%v, published %v", err, f.publisher.scans)
		}
		f.publisher.err = nil
		f.clock = f.clock.Add(time.Hour) // the lease ends
		if err := f.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		id, r := f.newest(t, image)
		if !f.publisher.scans[id] || len(f.publisher.scans) != 1 || len(r.Findings) != 1 {
			t.Errorf("published %v, newest %s with %d findings", f.publisher.scans, id, len(r.Findings))
		}
	})
}
