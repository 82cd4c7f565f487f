package advisory

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// families are ecosystems that share their advisories: one record names packages of both.
var families = map[string]string{
	"Wolfi": "Chainguard", "openSUSE": "SUSE", "BellSoft Hardened Containers": "Alpaquita",
}

func family(ecosystem string) string {
	base := baseEcosystem(ecosystem)
	if f, ok := families[base]; ok {
		return f
	}
	return base
}

// covered counts the records about each ecosystem and release. A record that names
// packages of several ecosystems, as GitHub's do, counts for none of them: whoever
// imports the advisories of PyPI also gets the few of npm among them, and has not
// looked at npm.
func covered(records []*Record) []core.Coverage {
	counts := map[string]*core.Coverage{}
	for _, r := range records {
		mixed := slices.ContainsFunc(r.Affected, func(a Affected) bool { return family(a.Ecosystem) != family(r.Affected[0].Ecosystem) })
		if mixed {
			continue
		}
		last := ""
		for i := range r.Affected {
			// They are ordered by ecosystem.
			e := r.Affected[i].Ecosystem
			if i > 0 && e == last {
				continue
			}
			last = e
			c := counts[e]
			if c == nil {
				c = &core.Coverage{Ecosystem: e}
				counts[e] = c
			}
			c.AdvisoryCount++
			if r.Modified.After(c.DataTime) {
				c.DataTime = r.Modified
			}
		}
	}
	out := make([]core.Coverage, 0, len(counts))
	for _, c := range counts {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b core.Coverage) int { return strings.Compare(a.Ecosystem, b.Ecosystem) })
	return out
}

// Covers tells whether the snapshot has advisories about an ecosystem and release, for
// example `Debian:12`. Advisories that name no release speak of every release, but only
// where no advisory names one.
func (s *Snapshot) Covers(ecosystem string) bool {
	if _, ok := s.coverage[ecosystem]; ok {
		return true
	}
	base := baseEcosystem(ecosystem)
	_, ok := s.coverage[base]
	return ok && !s.releases[base]
}

// indexCoverage prepares Covers.
func (s *Snapshot) indexCoverage() {
	s.coverage, s.releases = map[string]struct{}{}, map[string]bool{}
	for _, c := range s.info.Coverage {
		s.coverage[c.Ecosystem] = struct{}{}
		if base := baseEcosystem(c.Ecosystem); base != c.Ecosystem {
			s.releases[base] = true
		}
	}
}

// uncovered names the ecosystems of packages that the snapshot has no advisories about:
// nothing is found in them because nothing was looked for.
func (s *Snapshot) uncovered(packages []core.Package) []string {
	counts := map[string]int{}
	for i := range packages {
		if e := packages[i].Ecosystem; e != "" && !s.Covers(e) {
			counts[e]++
		}
	}
	out := make([]string, 0, len(counts))
	for e, n := range counts {
		if base := baseEcosystem(e); base == e && s.releases[base] {
			e += " without a release"
		}
		out = append(out, fmt.Sprintf("%s %s (%s)", core.ProblemNotCovered, e, count(n)))
	}
	return out
}

// CoverageChanged lists the ecosystems that only one of two snapshots covers, sorted;
// all tells that every report changes, since only one of them knows what is exploited, or
// how likely that is.
func CoverageChanged(old, now *Snapshot) (ecosystems []string, all bool) {
	for _, pair := range [][2]*Snapshot{{old, now}, {now, old}} {
		for _, c := range pair[0].info.Coverage {
			if !pair[1].Covers(c.Ecosystem) || pair[0].releases[baseEcosystem(c.Ecosystem)] != pair[1].releases[baseEcosystem(c.Ecosystem)] {
				ecosystems = append(ecosystems, baseEcosystem(c.Ecosystem))
			}
		}
	}
	slices.Sort(ecosystems)
	return slices.Compact(ecosystems), old.info.ExploitedKnown != now.info.ExploitedKnown || old.info.ScoresKnown != now.info.ScoresKnown
}

func count(packages int) string {
	if packages == 1 {
		return "1 package"
	}
	return fmt.Sprintf("%d packages", packages)
}
