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
	m := matching{snapshot: s, known: map[question]answer{}}
	for i := range packages {
		m.match(&packages[i])
	}
	return m.findings, append(m.problems, s.uncovered(packages)...)
}

// question is what findings depend on: the binary packages of one source package have the same
// advisories.
type question struct{ ecosystem, name, version, stream, others string }

type answer struct {
	hits []hit
	err  error
}

// matching is one run over the packages of an image.
type matching struct {
	snapshot *Snapshot
	known    map[question]answer
	findings []core.Finding
	problems []string
}

func (m *matching) match(p *core.Package) {
	subject := newSubject(p)
	if !subject.judged() {
		return
	}
	var possible []string
	if j := jarOf(p); j != nil {
		var err error
		if subject.others, possible, err = m.snapshot.identify(j); err != nil {
			m.problems = append(m.problems, problem(p, err))
		}
		possible = slices.DeleteFunc(possible, func(name string) bool { return name == subject.name })
	}
	a := m.ask(&subject)
	if a.err != nil {
		m.problems = append(m.problems, problem(p, a.err))
	}
	m.findings = append(m.findings, m.snapshot.merge(p, a.hits)...)
	for _, name := range possible {
		other := subject
		other.name, other.others = name, nil
		if a := m.ask(&other); a.err != nil || len(a.hits) > 0 {
			m.problems = append(m.problems, fmt.Sprintf("%s: %s %s may be %s, which has vulnerabilities", p.Location, p.Name, p.Version, name))
		}
	}
}

func (m *matching) ask(p *subject) answer {
	q := question{p.ecosystems[0], p.name, p.version, p.stream, strings.Join(p.others, ",")}
	a, ok := m.known[q]
	if !ok {
		a.hits, a.err = m.snapshot.hits(p)
		m.known[q] = a
	}
	return a
}

func problem(p *core.Package, err error) string {
	if errors.Is(err, ErrCorrupt) {
		return fmt.Sprintf("the advisories about %s cannot be read: %v", p.Name, err)
	}
	if errors.Is(err, errNoVersion) {
		return fmt.Sprintf("%s: the version of %s is not known", p.Location, p.Name)
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

var (
	errUnordered = errors.New("its versions cannot be compared")
	errNoVersion = errors.New("its version is not known")
)

// hits finds the advisories that affect a package. What can be found is returned
// beside an error.
func (s *Snapshot) hits(p *subject) ([]hit, error) {
	var out []hit
	var failed error
	seen := map[int]bool{}
	for _, ecosystem := range p.ecosystems {
		for i, name := range append([]string{p.name}, p.others...) {
			if i > 0 && name == p.name {
				continue
			}
			row, err := s.packageRow(ecosystem, name)
			if row == nil {
				failed = errors.Join(failed, err)
				continue
			}
			if p.version == "" {
				failed = errors.Join(failed, errNoVersion)
				continue
			}
			b, err := s.block(row[16:], name)
			if err == nil {
				out, err = s.hitsOf(p, ecosystem, b, seen, out)
			}
			failed = errors.Join(failed, err)
		}
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
		if !isVersion(baseEcosystem(ecosystem), p.version) {
			// Advisories may still list it; it is in no range.
			ordered, failed = false, fmt.Errorf("%w: it is no version of %s", errUnordered, ecosystem)
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
