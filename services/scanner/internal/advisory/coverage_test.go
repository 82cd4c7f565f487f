package advisory_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

func about(id string, ecosystems ...string) string {
	var affected []string
	for _, e := range ecosystems {
		affected = append(affected, `{"package":{"ecosystem":"`+e+`","name":"p"},"versions":["9"]}`)
	}
	return `{"id":"` + id + `","modified":"2024-01-01T00:00:00Z","affected":[` + strings.Join(affected, ",") + `]}`
}

// TestCovers: only what advisories were imported of was looked at. A release without
// advisories, an ecosystem that is named beside others only, and packages without a release
// are not covered.
func TestCovers(t *testing.T) {
	s := snapshot(t,
		about("A", "Debian:12", "Debian:11"), about("B", "Debian:12"), about("C", "PyPI", "npm"), about("D", "PyPI"),
		about("E", "Wolfi", "Chainguard"), about("F", "openSUSE:Leap 15.6", "SUSE:Linux Enterprise Server 15"), about("G", "Alpine"), about("H", "Ubuntu:22.04:LTS"),
	)
	for ecosystem, want := range map[string]bool{
		"Debian:12": true, "Debian:11": true, "Debian:13": false, "Debian": false, "PyPI": true, "npm": false, "Go": false,
		"Wolfi": true, "Chainguard": true, "openSUSE:Leap 15.6": true, "openSUSE:Leap 15.5": false, "Alpine:v3.22": true,
		"Ubuntu:22.04:LTS": true, "Ubuntu:24.04:LTS": false, "Rocky Linux:9": false,
	} {
		if got := s.Covers(ecosystem); got != want {
			t.Errorf("%s is covered: %v", ecosystem, got)
		}
		_, problems := s.Match([]core.Package{{Name: "q", Version: "1", Ecosystem: ecosystem}, {Name: "r", Version: "1", Ecosystem: ecosystem}})
		named := slices.ContainsFunc(problems, func(p string) bool {
			return strings.HasPrefix(p, core.ProblemNotCovered+" "+ecosystem) && strings.HasSuffix(p, "(2 packages)")
		})
		if named == want || len(problems) > 1 {
			t.Errorf("%s: problems %q", ecosystem, problems)
		}
	}
	i := s.Info()
	at := slices.IndexFunc(i.Coverage, func(c core.Coverage) bool { return c.Ecosystem == "Debian:12" })
	if at < 0 || i.Coverage[at].AdvisoryCount != 2 || i.Coverage[at].DataTime.IsZero() || slices.Contains(i.Ecosystems, "npm") {
		t.Errorf("coverage: %v", i.Coverage)
	}
}

// TestExploitedKnown: that no vulnerability is known to be exploited says something only if
// a list was imported, or each record states it.
func TestExploitedKnown(t *testing.T) {
	const kev = `{"catalogVersion":"1","vulnerabilities":[{"cveID":"CVE-1"}]}`
	stating := func(id, members string) string {
		return strings.TrimSuffix(about(id, "npm"), "}") + `,"database_specific":{` + members + `}}`
	}
	build := func(old *advisory.Snapshot, kevJSON, epss string, records ...string) *advisory.Snapshot {
		t.Helper()
		b := advisory.NewBuilder(100)
		for _, r := range records {
			if err := b.Add("x", []byte(r)); err != nil {
				t.Fatal(err)
			}
		}
		if kevJSON != "" {
			if err := b.SetKEV([]byte(kevJSON)); err != nil {
				t.Fatal(err)
			}
		}
		if epss != "" {
			if err := b.SetEPSS([]byte(epss)); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Inherit(old); err != nil {
			t.Fatal(err)
		}
		s, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	plain := build(nil, "", "", about("A", "npm"))
	listed := build(nil, kev, "", about("A", "npm"))
	for name, c := range map[string]struct {
		s                *advisory.Snapshot
		exploited, score bool
	}{
		"no list":                  {plain, false, false},
		"KEV":                      {listed, true, false},
		"EPSS":                     {build(nil, "", "cve,epss\nCVE-1,0.5\n", about("A", "npm")), false, true},
		"KEV by itself":            {build(plain, kev, ""), true, false},
		"KEV inherited":            {build(listed, "", "", about("B", "npm")), true, false},
		"EPSS alone keeps KEV":     {build(listed, "", "cve,epss\nCVE-1,0\n"), true, true},
		"each record states it":    {build(nil, "", "", stating("A", `"kev":false,"epss":0`), stating("B", `"kev":true,"epss":0.1`)), true, true},
		"a record does not":        {build(nil, "", "", stating("A", `"kev":false,"epss":0`), about("B", "npm")), false, false},
		"nothing stated":           {build(nil, "", "", stating("A", `"kev":null,"epss":null`)), false, false},
		"records' word is not all": {build(build(nil, "", "", stating("A", `"kev":false`)), "", "", about("B", "npm")), false, false},
	} {
		loaded, err := advisory.Decode(c.s.Encode(), c.s.Info().Digest)
		if err != nil {
			t.Fatal(err)
		}
		if i := loaded.Info(); i.ExploitedKnown != c.exploited || i.ScoresKnown != c.score {
			t.Errorf("%s: exploited known %v, scores known %v", name, i.ExploitedKnown, i.ScoresKnown)
		}
	}
}
