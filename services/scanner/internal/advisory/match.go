package advisory

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/osv-scalibr/semantic"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// Match returns the findings of packages, and problems: packages whose version
// nobody can compare.
func (s *Snapshot) Match(packages []core.Package) (findings []core.Finding, problems []string) {
	for i := range packages {
		p := &packages[i]
		hits, err := s.hits(p)
		if err != nil {
			problems = append(problems, fmt.Sprintf("version %q of %s cannot be compared", p.AdvisoryVersion(), p.Name))
		}
		findings = append(findings, s.merge(p, hits)...)
	}
	return findings, problems
}

// hit is one advisory that affects a package.
type hit struct {
	record   *Record
	affected *Affected
	// fixed are the versions that end the intervals the package's own is in.
	fixed []string
}

func (s *Snapshot) hits(p *core.Package) ([]hit, error) {
	version := p.AdvisoryVersion()
	if p.Ecosystem == "" || version == "" {
		return nil, nil
	}
	name := normalizeName(p.Ecosystem, p.AdvisoryName())
	refs := s.index[packageKey{p.Ecosystem, name}]
	if base, _, ok := strings.Cut(p.Ecosystem, ":"); ok {
		// A record for `Debian` speaks of every release.
		refs = slices.Concat(refs, s.index[packageKey{base, name}])
	}
	if len(refs) == 0 {
		return nil, nil
	}
	v, err := parseVersion(p.Ecosystem, version)
	if errors.Is(err, semantic.ErrUnsupportedEcosystem) {
		v, err = nil, nil
	}
	var out []hit
	for _, ref := range refs {
		listed := slices.Contains(ref.affected.Versions, version)
		inRange, fixed := false, []string(nil)
		if v != nil && err == nil {
			inRange, fixed, err = evaluate(ref.affected.Ranges, v)
		}
		if listed && !inRange {
			// Listed one by one: any fix of the record that comes later is one.
			fixed = laterFixes(ref.affected.Ranges, v)
		}
		if listed || inRange {
			out = append(out, hit{record: ref.record, affected: ref.affected, fixed: fixed})
		}
	}
	return out, err
}

// evaluate is the algorithm of the OSV schema over ranges whose events are in the
// order of versions.
func evaluate(ranges [][]Event, v semantic.Version) (affected bool, fixed []string, err error) {
	for _, events := range ranges {
		in := false
		next := "" // what ends the interval that v is in
		for _, e := range events {
			if e.Introduced == "0" {
				in = true
				continue
			}
			c, err := v.CompareStr(e.version())
			if err != nil {
				return false, nil, fmt.Errorf("compare with %q: %w", e.version(), err)
			}
			switch {
			case e.Introduced != "":
				in = in || c >= 0
			case e.Fixed != "":
				if c >= 0 {
					in = false
				} else if next == "" {
					next = e.Fixed
				}
			case e.LastAffected != "":
				in = in && c <= 0
			}
		}
		if in {
			affected = true
			if next != "" {
				fixed = append(fixed, next)
			}
		}
	}
	return affected, fixed, nil
}

func laterFixes(ranges [][]Event, v semantic.Version) []string {
	var out []string
	for _, events := range ranges {
		for _, e := range events {
			if e.Fixed == "" || v == nil {
				continue
			}
			if c, err := v.CompareStr(e.Fixed); err == nil && c < 0 {
				out = append(out, e.Fixed)
			}
		}
	}
	return out
}

// sortVersions orders fixed versions by the rules of the ecosystem.
func sortVersions(ecosystem string, versions []string) []string {
	slices.Sort(versions)
	versions = slices.Compact(versions)
	slices.SortStableFunc(versions, func(a, b string) int {
		v, err := parseVersion(ecosystem, a)
		if err != nil {
			return 0
		}
		c, err := v.CompareStr(b)
		if err != nil {
			return 0
		}
		return c
	})
	return versions
}
