package advisory_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

const (
	kevCatalog = `{"title":"x","catalogVersion":"1","vulnerabilities":[{"cveID":"CVE-1"}]}`
	epssList   = "#model_version:1\ncve,epss,percentile\nCVE-1,0.25,0.9\nCVE-2,0.5,0.9\n"
)

// exploitation matches one package with one advisory about two vulnerabilities.
func exploitation(t *testing.T, s *advisory.Snapshot) map[string]advisory.Score {
	t.Helper()
	findings, _ := s.Match([]core.Package{{Name: "a", Version: "1.0.0", Ecosystem: "Debian:12"}})
	out := map[string]advisory.Score{}
	for _, f := range findings {
		out[f.ID] = advisory.Score{KEV: f.KEV, EPSS: f.EPSS}
	}
	return out
}

// TestScores: each vulnerability has its own scores, also where one advisory speaks
// of several; they are stored with the snapshot, and kept by an import of records.
func TestScores(t *testing.T) {
	dsa := record("DSA-1", `"upstream":["CVE-1","CVE-2"]`, "Debian:12", "a", events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"2"}`))
	b := advisory.NewBuilder(10)
	if err := errors.Join(b.Add("dsa", []byte(dsa)), b.SetKEV([]byte(kevCatalog)), b.SetEPSS([]byte(epssList))); err != nil {
		t.Fatal(err)
	}
	s, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]advisory.Score{"CVE-1": {KEV: true, EPSS: 0.25}, "CVE-2": {EPSS: 0.5}}
	if diff := cmp.Diff(want, exploitation(t, s)); diff != "" {
		t.Errorf("scores (-want +got):\n%s", diff)
	}
	content := s.Encode()
	loaded, err := advisory.Decode(content, s.Info().Digest)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, exploitation(t, loaded)); diff != "" {
		t.Errorf("scores of the loaded snapshot (-want +got):\n%s", diff)
	}

	// Records alone keep the scores; scores alone keep the records and the others.
	records := advisory.NewBuilder(10)
	if err := records.Add("dsa", []byte(dsa)); err != nil {
		t.Fatal(err)
	}
	if err := records.Inherit(loaded); err != nil {
		t.Fatal(err)
	}
	again, err := records.Build()
	if err != nil || again.Info().Digest != s.Info().Digest {
		t.Errorf("records alone: %v, %v", again, err)
	}
	scores := advisory.NewBuilder(10)
	if err := scores.SetEPSS([]byte("cve,epss\r\nCVE-2,0.125\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := scores.Inherit(loaded); err != nil {
		t.Fatal(err)
	}
	if again, err = scores.Build(); err != nil {
		t.Fatal(err)
	}
	want = map[string]advisory.Score{"CVE-1": {KEV: true}, "CVE-2": {EPSS: 0.125}}
	if diff := cmp.Diff(want, exploitation(t, again)); diff != "" {
		t.Errorf("scores alone (-want +got):\n%s", diff)
	}
	if _, err := advisory.Decode(content, again.Info().Digest); !errors.Is(err, advisory.ErrCorrupt) {
		t.Errorf("other scores have the same digest: %v", err)
	}
}

func TestMalformedScores(t *testing.T) {
	for name, c := range map[string]string{
		"empty": "", "no header": "CVE-1,0.1,0.2\n", "only a header": "cve,epss\n", "short line": "cve,epss\nCVE-1\n",
		"over one": "cve,epss\nCVE-1,1.5\n", "no number": "cve,epss\nCVE-1,NaN\n", "no id": "cve,epss\n,0.1\n",
		"long line": "cve,epss\n" + strings.Repeat("x", 1<<17),
	} {
		if err := advisory.NewBuilder(1).SetEPSS([]byte(c)); !errors.Is(err, advisory.ErrScores) {
			t.Errorf("EPSS %s: %v", name, err)
		}
	}
	for _, c := range []string{"", "{}", `{"vulnerabilities":[{}]}`, `{"vulnerabilities":1}`} {
		if err := advisory.NewBuilder(1).SetKEV([]byte(c)); !errors.Is(err, advisory.ErrScores) {
			t.Errorf("KEV %q: %v", c, err)
		}
	}
	if !advisory.IsKEV([]byte(kevCatalog)) || advisory.IsKEV([]byte(`{"id":"CVE-1"}`)) {
		t.Error("IsKEV is wrong")
	}
}

func FuzzScores(f *testing.F) {
	f.Add([]byte(kevCatalog))
	f.Add([]byte(epssList))
	f.Fuzz(func(t *testing.T, content []byte) {
		b := advisory.NewBuilder(1)
		for _, err := range []error{b.SetKEV(content), b.SetEPSS(content)} {
			if err != nil && !errors.Is(err, advisory.ErrScores) {
				t.Fatal(err)
			}
		}
	})
}
