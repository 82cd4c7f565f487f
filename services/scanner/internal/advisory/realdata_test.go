package advisory_test

import (
	"archive/zip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/testkit/race"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/extract"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/layertest"
)

// testData returns the folder of real advisories and package databases.
func testData(tb testing.TB) string {
	tb.Helper()
	dir := os.Getenv("SEAWORTHY_TESTDATA")
	if dir == "" {
		dir = "../../../../../shared/data"
	}
	if _, err := os.Stat(filepath.Join(dir, "osv")); err != nil {
		tb.Skipf("no real advisories in %s; set SEAWORTHY_TESTDATA", dir)
	}
	return dir
}

func loadAll(tb testing.TB, dir string, ecosystems ...string) (*advisory.Snapshot, *advisory.Builder) {
	tb.Helper()
	b := advisory.NewBuilder(1_000_000)
	for _, e := range ecosystems {
		zr, err := zip.OpenReader(filepath.Join(dir, "osv", e, "all.zip"))
		if err != nil {
			tb.Fatal(err)
		}
		defer zr.Close()
		for _, f := range zr.File {
			rc, err := f.Open()
			if err != nil {
				tb.Fatal(err)
			}
			content, err := io.ReadAll(rc)
			rc.Close()
			if err != nil {
				tb.Fatal(err)
			}
			if err := b.Add(e+"/all.zip!"+f.Name, content); err != nil {
				tb.Fatal(err)
			}
		}
	}
	s, err := b.Build()
	if err != nil {
		tb.Fatal(err)
	}
	return s, b
}

// TestRealAdvisories loads everything there is and reads it back.
func TestRealAdvisories(t *testing.T) {
	if race.Enabled {
		t.Skip("reads 58,759 records in one goroutine: minutes under the race detector, and nothing to find")
	}
	dir := testData(t)
	paths, err := filepath.Glob(filepath.Join(dir, "osv", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var ecosystems []string
	for _, p := range paths {
		ecosystems = append(ecosystems, filepath.Base(p))
	}
	start := time.Now()
	s, b := loadAll(t, dir, ecosystems...)
	built := time.Since(start)
	info := s.Info()
	for _, r := range b.Rejected() {
		t.Logf("rejected %s: %s", r.Name, r.Message)
	}
	path := filepath.Join(t.TempDir(), "snapshot")
	if err := s.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	again, err := advisory.Open(path, info.Digest)
	if err != nil {
		t.Fatal(err)
	}
	opened := time.Since(start)
	if err := again.Verify(); err != nil {
		t.Error(err)
	}
	t.Logf("%d advisories, %d rejected; built in %v, %d bytes, opened in %v", info.AdvisoryCount, info.RejectedCount, built, s.Size(), opened)
	if diff := cmp.Diff(info, again.Info()); diff != "" {
		t.Errorf("snapshot read back differs (-built +loaded):\n%s", diff)
	}
	if info.AdvisoryCount < 50_000 {
		t.Errorf("only %d advisories", info.AdvisoryCount)
	}
}

type expected struct {
	Packages int `json:"packages"`
	Findings []struct {
		ID            string          `json:"id"`
		Source        string          `json:"source"`
		Origin        string          `json:"origin"`
		SourceVersion string          `json:"source_version"`
		Version       string          `json:"version"`
		Fixed         json.RawMessage `json:"fixed"`
	} `json:"findings"`
}

// match is what an advisory says about a source package.
type match struct{ ID, Source, Version, Fixed string }

// TestAccuracy compares the findings of real package databases with those of an
// independent matcher.
func TestAccuracy(t *testing.T) {
	dir := testData(t)
	s, _ := loadAll(t, dir, "Debian", "Alpine")
	cases, err := filepath.Glob(filepath.Join(dir, "packages", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(filepath.Base(c), func(t *testing.T) {
			inv := inventory(t, c)
			var want expected
			content, err := os.ReadFile(filepath.Join(c, "expected-findings.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(content, &want); err != nil {
				t.Fatal(err)
			}
			if len(inv.Packages) != want.Packages {
				t.Errorf("%d packages, want %d", len(inv.Packages), want.Packages)
			}
			if len(inv.Problems) != 0 {
				t.Errorf("problems: %v", inv.Problems)
			}
			findings, problems := s.Match(inv.Packages)
			if len(problems) != 0 {
				t.Errorf("problems: %v", problems)
			}
			if diff := cmp.Diff(wanted(t, want), matches(inv.Packages, findings)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

func wanted(t *testing.T, e expected) []match {
	t.Helper()
	var out []match
	for _, f := range e.Findings {
		var list []string
		var one string
		if json.Unmarshal(f.Fixed, &list) == nil {
			if len(list) > 0 {
				one = list[0]
			}
		} else if err := json.Unmarshal(f.Fixed, &one); err != nil {
			t.Fatal(err)
		}
		m := match{ID: f.ID, Source: f.Source + f.Origin, Version: f.SourceVersion + f.Version, Fixed: one}
		out = append(out, m)
	}
	return sorted(out)
}

// matches turns findings back to what each advisory says: a finding holds the ids
// of all advisories about one vulnerability.
func matches(packages []core.Package, findings []core.Finding) []match {
	byPURL := map[string]core.Package{}
	for _, p := range packages {
		byPURL[p.PURL] = p
	}
	var out []match
	for _, f := range findings {
		p := byPURL[f.PURL]
		for _, id := range f.Aliases {
			if len(id) > 4 && id[:4] == "CVE-" {
				continue
			}
			m := match{ID: id, Source: p.AdvisoryName(), Version: p.AdvisoryVersion()}
			if len(f.FixedVersions) > 0 {
				m.Fixed = f.FixedVersions[0]
			}
			out = append(out, m)
		}
	}
	return sorted(out)
}

func sorted(ms []match) []match {
	slices.SortFunc(ms, func(a, b match) int {
		for _, c := range [][2]string{{a.ID, b.ID}, {a.Source, b.Source}, {a.Fixed, b.Fixed}} {
			if c[0] != c[1] {
				if c[0] < c[1] {
					return -1
				}
				return 1
			}
		}
		return 0
	})
	return slices.Compact(ms)
}

// inventory packs a package database into a layer and extracts it.
func inventory(tb testing.TB, dir string) core.Inventory {
	tb.Helper()
	blobs := layertest.Store{}
	layer := blobs.Add(layertest.Gzip(tb, layertest.Tar(tb, layertest.Database(tb, dir)...)))
	x, err := extract.New(blobs, extract.DefaultLimits(), 1)
	if err != nil {
		tb.Fatal(err)
	}
	inv, err := x.Extract(tb.Context(), imageref.Ref{}, []core.Descriptor{layer})
	if err != nil {
		tb.Fatal(err)
	}
	return inv
}
