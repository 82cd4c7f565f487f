package advisory_test

import (
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/osv-scalibr/semantic"

	"github.com/seaworthy-dev/seaworthy/pkg/testkit/race"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// smallRecords has a record of every shape.
var smallRecords = []string{
	record("A-1", `"aliases":["CVE-1"],"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}]`, "npm", "p", events("SEMVER", `{"introduced":"1.0.0"},{"fixed":"1.2.0"},{"introduced":"2.0.0"},{"last_affected":"2.1.0"}`)),
	record("A-2", `"aliases":["CVE-1"],"summary":"words"`, "npm", "p", `"versions":["1.0.0","1.1.0"]`),
	record("DSA-1", `"upstream":["CVE-2","CVE-3"]`, "Debian:12", "q", events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"2.0-1"}`)+`,"ecosystem_specific":{"urgency":"low"}`),
	record("M-1", `"summary":"Important: nodejs:16 security update"`, "AlmaLinux:8", "nodejs", events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"1:16.4-1.module_el8.5.0+1"}`)),
	record("U-1", `"database_specific":{"kev":true,"epss":0.5}`, "Unheard", "r", `"versions":["x"]`),
}

var smallPackages = []core.Package{
	{Name: "p", Version: "1.1.0", Ecosystem: "npm"}, {Name: "q", Version: "1.0-1", Ecosystem: "Debian:12"},
	{Name: "nodejs", Version: "1:16.3-1.module_el8.5.0+1", Ecosystem: "AlmaLinux:8"}, {Name: "r", Version: "x", Ecosystem: "Unheard"},
}

func small(tb testing.TB) *advisory.Snapshot {
	tb.Helper()
	b := advisory.NewBuilder(10)
	for _, r := range smallRecords {
		if err := b.Add("small", []byte(r)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := errors.Join(b.SetKEV([]byte(kevCatalog)), b.SetEPSS([]byte(epssList))); err != nil {
		tb.Fatal(err)
	}
	s, err := b.Build()
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// TestRoundTrip: a snapshot built of the records of another one is the same, byte
// for byte.
func TestRoundTrip(t *testing.T) {
	s := small(t)
	b := advisory.NewBuilder(10)
	if err := b.SetKEV([]byte(kevCatalog)); err != nil {
		t.Fatal(err)
	}
	if err := b.Inherit(s); err != nil {
		t.Fatal(err)
	}
	again, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	if again.Info().Digest != s.Info().Digest || !slices.Equal(again.Encode(), s.Encode()) {
		t.Error("the copy has another digest")
	}
	if err := s.Verify(); err != nil || s.Size() != int64(len(s.Encode())) {
		t.Errorf("verify: %v, %d bytes", err, s.Size())
	}
}

// TestEveryByte damages every byte of a snapshot in turn. It is refused, or the
// answers stay the same, or there is a problem: never is an advisory just gone.
func TestEveryByte(t *testing.T) {
	s := small(t)
	content := s.Encode()
	want, problems := s.Match(smallPackages)
	if len(want) != 5 || problems != nil {
		t.Fatalf("%d findings, %v", len(want), problems)
	}
	refused, noticed := 0, 0
	for i := range content {
		for _, bits := range []byte{0x01, 0xff} {
			damaged := slices.Clone(content)
			damaged[i] ^= bits
			if _, err := advisory.Decode(damaged, s.Info().Digest); !errors.Is(err, advisory.ErrCorrupt) && !errors.Is(err, advisory.ErrNewer) {
				t.Fatalf("byte %d: the digest does not notice: %v", i, err)
			}
			path := filepath.Join(t.TempDir(), "damaged")
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			o, err := advisory.Open(path, "sha256:x")
			if err != nil {
				refused++
				continue
			}
			got, problems := o.Match(smallPackages)
			if len(problems) == 0 && !gocmp.Equal(want, got) {
				t.Fatalf("byte %d: %s", i, gocmp.Diff(want, got))
			}
			if len(problems) > 0 {
				noticed++
			}
		}
	}
	if refused == 0 || noticed == 0 {
		t.Errorf("%d refused, %d noticed when they were read", refused, noticed)
	}
	for n := range content {
		if _, err := advisory.Decode(content[:n], s.Info().Digest); !errors.Is(err, advisory.ErrCorrupt) {
			t.Fatalf("truncated to %d bytes: %v", n, err)
		}
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "snapshot")
	s := small(t)
	if err := s.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	o, err := advisory.Open(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(s.Info(), o.Info()); diff != "" {
		t.Errorf("opened (-built +opened):\n%s", diff)
	}
	// What it answers stays right when the file and the snapshot are gone.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	want, _ := s.Match(smallPackages)
	got, _ := o.Match(smallPackages)
	for range 2 {
		runtime.GC() // nobody uses the snapshot any more
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-built +opened):\n%s", diff)
	}
	if _, err := advisory.Open(path, ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for name, content := range map[string][]byte{"empty": nil, "short": []byte("SWADVIS\n"), "another": make([]byte, 4096)} {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := advisory.Open(p, ""); !errors.Is(err, advisory.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	newer := s.Encode()
	binary.LittleEndian.PutUint32(newer[8:], 3)
	if _, err := advisory.Decode(newer, ""); !errors.Is(err, advisory.ErrNewer) {
		t.Errorf("a newer format: %v", err)
	}
	if err := s.WriteFile(filepath.Join(dir, "none", "x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("write into a directory that does not exist: %v", err)
	}
}

func TestAbout(t *testing.T) {
	s := small(t)
	for id, want := range map[string][]core.PackageKey{
		"CVE-1": {{Ecosystem: "npm", Name: "p"}}, "A-2": {{Ecosystem: "npm", Name: "p"}}, "CVE-3": {{Ecosystem: "Debian", Name: "q"}},
		"M-1": {{Ecosystem: "AlmaLinux", Name: "nodejs"}}, "CVE-4": {},
	} {
		got, err := s.About(id)
		if err != nil || !slices.Equal(want, got) {
			t.Errorf("%s: %v, %v, want %v", id, got, err, want)
		}
	}
}

// FuzzSnapshot: whatever a file is, with checksums that fit, it is refused or it
// answers; nothing panics.
func FuzzSnapshot(f *testing.F) {
	content := small(f).Encode()
	f.Add(content)
	f.Add(content[:len(content)/2])
	f.Add([]byte("SWADVIS\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		s, err := advisory.Decode(advisory.Resum(content), "")
		if s == nil {
			if !errors.Is(err, advisory.ErrCorrupt) && !errors.Is(err, advisory.ErrNewer) {
				t.Fatal(err)
			}
			return
		}
		s.Match(smallPackages)
		for _, err := range []error{errOf(s.Records()), errOf(s.Scores()), errOf(s.About("CVE-1")), errOf(advisory.Changed(s, s))} {
			if err != nil && !errors.Is(err, advisory.ErrCorrupt) {
				t.Fatal(err)
			}
		}
	})
}

func errOf[T any](_ T, err error) error { return err }

// TestReference compares matching with the evaluation algorithm of the OSV schema,
// word for word, over all real records: for every eighth package some of the
// versions that its records name.
func TestReference(t *testing.T) {
	if race.Enabled {
		t.Skip("minutes under the race detector, in one goroutine")
	}
	s := buildAll(t, osvFiles(t, testData(t)))
	records, err := s.Records()
	if err != nil {
		t.Fatal(err)
	}
	type key struct{ ecosystem, name string }
	type statement struct {
		id string
		a  *advisory.Affected
	}
	about := map[key][]statement{}
	for _, r := range records {
		for i := range r.Affected {
			a := &r.Affected[i]
			about[key{a.Ecosystem, a.Name}] = append(about[key{a.Ecosystem, a.Name}], statement{r.ID, a})
		}
	}
	asked, affected := 0, 0
	keys := slices.SortedFunc(maps.Keys(about), func(a, b key) int {
		return cmp.Or(strings.Compare(a.ecosystem, b.ecosystem), strings.Compare(a.name, b.name))
	})
	for i := 0; i < len(keys); i += 8 {
		k, statements := keys[i], about[keys[i]]
		if _, err := semantic.Parse("1", k.ecosystem); err != nil {
			continue
		}
		for _, version := range some(statements[0].a) {
			want := map[string]bool{}
			for _, st := range statements {
				if isAffected(t, version, st.a) {
					want[st.id] = true
				}
			}
			p := core.Package{Name: k.name, Version: version, Ecosystem: k.ecosystem}
			stream := statements[0].a.Stream
			if stream == "?" && !strings.Contains(version, ".module") {
				continue // nothing says that it is of a module
			}
			if stream != "" && stream != "?" {
				p.PURL = "pkg:rpm/almalinux/x?rpmmod=" + stream
			}
			findings, problems := s.Match([]core.Package{p})
			if advisory.IsVersion(k.ecosystem, version) && s.Covers(k.ecosystem) && len(problems) > 0 {
				t.Errorf("%v %s: %v", k, version, problems)
			}
			got := map[string]bool{}
			for _, f := range findings {
				for _, id := range f.Aliases {
					got[id] = true
				}
			}
			asked++
			for _, st := range statements {
				if other := st.a.Stream; other != stream && (other == "" || stream == "" || other != "?" && stream != "?") {
					continue // of another module stream
				}
				if want[st.id] {
					affected++
				}
				if want[st.id] != got[st.id] && (want[st.id] || !aliasOf(records, st.id, got)) {
					t.Errorf("%v %s: %s affects it: %v, by the schema %v", k, version, st.id, got[st.id], want[st.id])
				}
			}
		}
	}
	t.Logf("%d packages, %d questions, %d times affected", len(about), asked, affected)
}

// aliasOf tells whether an id may be among the findings as another one's alias.
func aliasOf(records []*advisory.Record, id string, got map[string]bool) bool {
	for _, r := range records {
		if got[r.ID] && r.ID != id && (slices.Contains(r.Aliases, id) || slices.Contains(r.Upstream, id)) {
			return true
		}
	}
	return false
}

func some(a *advisory.Affected) []string {
	out := slices.Clone(a.Versions[:min(len(a.Versions), 2)])
	for _, events := range a.Ranges[:min(len(a.Ranges), 2)] {
		for _, e := range events[:min(len(events), 3)] {
			out = append(out, e.Introduced+e.Fixed+e.LastAffected+e.Limit)
		}
	}
	return slices.DeleteFunc(out, func(v string) bool { return v == "" })
}

// isAffected is the algorithm as https://ossf.github.io/osv-schema/#evaluation
// defines it. A text that is no version of the ecosystem is affected where it is listed.
func isAffected(t *testing.T, version string, a *advisory.Affected) bool {
	t.Helper()
	v, err := semantic.Parse(advisory.Canonical(a.Ecosystem, version), a.Ecosystem)
	if err != nil {
		t.Fatal(err)
	}
	compare := func(other string) int {
		c, err := v.CompareStr(advisory.Canonical(a.Ecosystem, other))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, listed := range a.Versions {
		if listed == version || compare(listed) == 0 {
			return true
		}
	}
	if !advisory.IsVersion(a.Ecosystem, version) {
		return false
	}
	for _, events := range a.Ranges {
		vulnerable, before, limits := false, false, false
		for _, e := range events {
			switch {
			case e.Introduced == "0" || e.Introduced != "" && compare(e.Introduced) >= 0:
				vulnerable = true
			case e.Fixed != "" && compare(e.Fixed) >= 0, e.LastAffected != "" && compare(e.LastAffected) > 0:
				vulnerable = false
			}
			if e.Limit != "" {
				limits, before = true, before || compare(e.Limit) < 0
			}
		}
		if vulnerable && (before || !limits) {
			return true
		}
	}
	return false
}
