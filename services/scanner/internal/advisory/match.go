package advisory

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/google/osv-scalibr/semantic"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// Match returns the findings of packages, and problems: packages that nobody can
// judge, because the snapshot has nothing about their ecosystem or release, because their
// versions cannot be compared or because what the snapshot has about them is damaged.
func (s *Snapshot) Match(packages []core.Package) (findings []core.Finding, problems []string) {
	defer runtime.KeepAlive(s)
	// The binary packages of one source package have the same advisories.
	type question struct{ ecosystem, name, version, stream string }
	type answer struct {
		hits []hit
		err  error
	}
	known := map[question]answer{}
	for i := range packages {
		p := &packages[i]
		subject := newSubject(p)
		if !subject.judged() {
			continue
		}
		q := question{p.Ecosystem, subject.name, subject.version, subject.stream}
		a, ok := known[q]
		if !ok {
			a.hits, a.err = s.hits(&subject)
			known[q] = a
		}
		if a.err != nil {
			problems = append(problems, problem(p, a.err))
		}
		findings = append(findings, s.merge(p, a.hits)...)
	}
	return findings, append(problems, s.uncovered(packages)...)
}

func problem(p *core.Package, err error) string {
	if errors.Is(err, ErrCorrupt) {
		return fmt.Sprintf("the advisories about %s cannot be read: %v", p.Name, err)
	}
	return fmt.Sprintf("version %q of %s cannot be compared", p.AdvisoryVersion(), p.Name)
}

// hit is one advisory that affects a package.
type hit struct {
	record   *Record
	affected *Affected // without versions
	// fixed are the versions that end the intervals the package's own is in.
	fixed []string
}

var errUnordered = errors.New("its versions cannot be compared")

// hits finds the advisories that affect a package. What can be found is returned
// beside an error.
func (s *Snapshot) hits(p *subject) ([]hit, error) {
	var out []hit
	var failed error
	seen := map[int]bool{}
	for _, ecosystem := range p.ecosystems {
		row, err := s.packageRow(ecosystem, p.name)
		if row == nil {
			failed = errors.Join(failed, err)
			continue
		}
		b, err := s.block(row[16:], p.name)
		if err == nil {
			out, err = s.hitsOf(p, ecosystem, b, seen, out)
		}
		failed = errors.Join(failed, err)
	}
	return out, failed
}

// hitsOf finds them in the block of one package.
func (s *Snapshot) hitsOf(p *subject, ecosystem string, b []byte, seen map[int]bool, out []hit) ([]hit, error) {
	r := reader{b: b}
	table := readVersions(&r)
	if r.bad {
		return out, corrupt("versions of %s", p.name)
	}
	var failed error
	at := place{}
	ordered := false
	if !table.unordered {
		v, err := newOrder(ecosystem, p.version)
		if err == nil {
			at, err = table.find(v)
		}
		ordered = err == nil
		if err != nil && !errors.Is(err, semantic.ErrUnsupportedEcosystem) {
			failed = fmt.Errorf("%w: %w", errUnordered, err)
		}
	}
	loose := table.loosely(p.version)
	err := readEntriesOf(&r, &table, func(e *packageEntry) error {
		if !p.sameStream(e.stream) {
			return nil
		}
		listed := e.listed(at, loose)
		inRange, fixed := false, []string(nil)
		switch {
		case ordered:
			var err error
			if inRange, fixed, err = e.evaluate(at); err != nil {
				return err
			}
		case len(e.ranges) > 1 && !listed:
			failed = errors.Join(failed, errUnordered)
		}
		if !listed && !inRange {
			return nil
		}
		if !inRange && ordered {
			// Listed one by one: any fix of the record that comes later is one.
			fixed = e.laterFixes(at)
		}
		return s.addHit(e, ecosystem, fixed, seen, &out)
	})
	return out, errors.Join(err, failed)
}

// addHit adds what an entry says; a record that has several entries about the
// package speaks once for each.
func (s *Snapshot) addHit(e *packageEntry, ecosystem string, fixed []string, seen map[int]bool, out *[]hit) error {
	affected := &Affected{Ecosystem: ecosystem, Severity: e.severity, Score: e.score, Vector: string(e.vector)}
	if seen[e.record] {
		// The record is read already.
		id, err := s.recordID(e.record)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(*out, func(h hit) bool { return h.record.ID == string(id) })
		*out = append(*out, hit{record: (*out)[i].record, affected: affected, fixed: fixed})
		return nil
	}
	record, _, err := s.record(e.record)
	if err != nil {
		return err
	}
	seen[e.record] = true
	*out = append(*out, hit{record: record, affected: affected, fixed: fixed})
	return nil
}

// sortVersions orders fixed versions by the rules of the ecosystem.
func sortVersions(ecosystem string, versions []string) []string {
	slices.Sort(versions)
	versions = slices.Compact(versions)
	if len(versions) < 2 {
		return versions
	}
	slices.SortStableFunc(versions, func(a, b string) int {
		o, err := newOrder(ecosystem, a)
		if err != nil {
			return 0
		}
		c, err := o.compare(b)
		if err != nil {
			return 0
		}
		return c
	})
	return versions
}

// baseEcosystem is an ecosystem without its release.
func baseEcosystem(ecosystem string) string {
	base, _, _ := strings.Cut(ecosystem, ":")
	return base
}
