package affected_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/affected"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/archive"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// snapshot is an advisory snapshot in use; nil is none.
type snapshot struct{ *advisory.Snapshot }

func (s snapshot) About(id string) ([]core.PackageKey, bool, error) {
	if s.Snapshot == nil {
		return nil, false, nil
	}
	keys, err := s.Snapshot.About(id)
	return keys, true, err
}

const record = `{"id":"GHSA-a","aliases":["CVE-1"],"modified":"2024-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"npm","name":"p"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"2.0.0"}]}]}]}`

type fixture struct {
	*affected.Finder
	snapshot *advisory.Snapshot
	store    *store.SQL
	archive  *archive.Archive
	clock    time.Time
}

func newFixture(t *testing.T, db *sqldb.DB) *fixture {
	t.Helper()
	s, err := store.New(db)
	if err != nil {
		t.Fatal(err)
	}
	b := advisory.NewBuilder(10)
	if err := b.Add("a", []byte(record)); err != nil {
		t.Fatal(err)
	}
	snap, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{snapshot: snap, store: s, clock: time.Unix(1_700_000_000, 0)}
	f.archive = archive.New(s, func() time.Time { return f.clock })
	f.Finder = &affected.Finder{Store: s, Reports: f.archive, Advisories: snapshot{snap}}
	return f
}

func digest(i int) string { return fmt.Sprintf("sha256:%064x", i) }

// scan stores what a scan of an image under a tag finds.
func (f *fixture) scan(t *testing.T, tag string, i int, packages ...core.Package) {
	t.Helper()
	f.clock = f.clock.Add(time.Minute)
	findings, problems := f.snapshot.Match(packages)
	r := &core.Report{ImageDigest: digest(i), Packages: packages, Findings: findings, Problems: problems, Snapshot: f.snapshot.Info(), ScannerVersion: "1"}
	r.Sort()
	ref, err := f.archive.Save(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("%s-%d-%d", tag, i, f.clock.Unix())
	image := imageref.Ref{Registry: "r.example", Repository: "a", Tag: tag, Digest: digest(i)}
	if _, err := f.store.CreateScan(t.Context(), store.Scan{ID: id, Image: image, State: store.Running, CreateTime: f.clock}); err != nil {
		t.Fatal(err)
	}
	if err := f.store.FinishScan(t.Context(), id, []core.ReportRef{ref}, f.clock); err != nil {
		t.Fatal(err)
	}
}

func npm(version string) core.Package {
	return core.Package{Name: "p", Version: version, Ecosystem: "npm", PURL: "pkg:npm/p@" + version}
}

func digests(images []affected.Image) []string {
	var out []string
	for _, i := range images {
		out = append(out, i.Digest)
	}
	return out
}

func TestFinder(t *testing.T) {
	sqldbtest.Run(t, "scanner", store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		f := newFixture(t, db)
		ctx := t.Context()
		f.scan(t, "old", 1, npm("1.0.0"))
		f.scan(t, "new", 2, npm("2.0.0"))
		f.scan(t, "deb", 3, core.Package{
			Name: "libssl3", SourceName: "openssl", Version: "3.0-1", Ecosystem: "Debian:12", PURL: "pkg:deb/debian/libssl3@3.0-1?arch=amd64",
		})
		f.scan(t, "other", 4, core.Package{Name: "example.org/m", Version: "1.0.0", Ecosystem: "Go", PURL: "pkg:golang/example.org/m@v1.0.0"})
		for _, id := range []string{"CVE-1", "GHSA-a"} {
			images, next, err := f.ByAdvisory(ctx, id, "", 10)
			if err != nil || next != "" || !slices.Equal(digests(images), []string{digest(1)}) {
				t.Fatalf("%s: %v, %q, %v", id, images, next, err)
			}
			i := images[0]
			if len(i.Findings) != 1 || i.Findings[0].GetId() != "CVE-1" || len(i.Places) != 1 || i.Places[0].Tag != "old" {
				t.Errorf("%s: %+v", id, i)
			}
		}
		for purl, want := range map[string][]string{
			"pkg:npm/p": {digest(1), digest(2)}, "pkg:npm/p@2.0.0": {digest(2)}, "pkg:npm/q": nil,
			"pkg:deb/debian/libssl3": {digest(3)}, "pkg:deb/libssl3": {digest(3)}, "pkg:deb/ubuntu/libssl3": nil,
			"pkg:deb/debian/libssl3@3.0-1?arch=arm64": {digest(3)}, "pkg:golang/example.org/m": {digest(4)},
			"pkg:golang/example.org/m@v1.0.0": {digest(4)}, "pkg:golang/example.org/m@1.0.0": {digest(4)}, "pkg:golang/example.org/m/v2": nil,
		} {
			images, _, err := f.ByPURL(ctx, purl, "", 10)
			if err != nil || !slices.Equal(digests(images), want) {
				t.Errorf("%s: %v, %v, want %v", purl, digests(images), err, want)
			}
		}
		// A tag that moved on is not said to be affected.
		f.scan(t, "old", 2, npm("2.0.0"))
		if images, _, err := f.ByAdvisory(ctx, "CVE-1", "", 10); err != nil || len(images) != 1 || images[0].Places[0].Tag != "" {
			t.Errorf("after the tag moved: %+v, %v", images, err)
		}
		if _, _, err := f.ByAdvisory(ctx, "CVE-2", "", 10); !errors.Is(err, affected.ErrUnknown) {
			t.Errorf("unknown: %v", err)
		}
		f.Advisories = snapshot{}
		if _, _, err := f.ByAdvisory(ctx, "CVE-1", "", 10); !errors.Is(err, affected.ErrNoSnapshot) {
			t.Errorf("no snapshot: %v", err)
		}
		if _, _, err := f.ByPURL(ctx, "npm/p", "", 10); !errors.Is(err, affected.ErrPURL) {
			t.Errorf("no purl: %v", err)
		}
	})
}

// TestPages: every image is listed once, whatever the size of a page, also where the
// index names more images than are affected.
func TestPages(t *testing.T) {
	sqldbtest.Run(t, "scanner", store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		f := newFixture(t, db)
		var want []string
		for i := range 130 {
			version := "2.0.0"
			if i%3 == 0 {
				version = "1.0.0"
				want = append(want, digest(i))
			}
			f.scan(t, "", i, npm(version))
		}
		for _, size := range []int{1, 7, 43, 44, 100} {
			var got []string
			for from, pages := "", 0; ; pages++ {
				images, next, err := f.ByAdvisory(t.Context(), "CVE-1", from, size)
				if err != nil || len(images) > size || pages > 50 {
					t.Fatalf("%d images, %v", len(images), err)
				}
				got = append(got, digests(images)...)
				if from = next; next == "" {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("pages of %d: %d images, want %d", size, len(got), len(want))
			}
		}
	})
}
