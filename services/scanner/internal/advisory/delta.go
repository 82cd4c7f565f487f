package advisory

import (
	"bytes"
	"cmp"
	"runtime"
	"slices"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// Key is what packages of an ecosystem with a name are found by.
func Key(ecosystem, name string) core.PackageKey { return keyOf(ecosystem, name) }

func keyOf(ecosystem, name string) core.PackageKey {
	base := baseEcosystem(ecosystem)
	return core.PackageKey{Ecosystem: base, Name: normalizeName(base, name)}
}

// addKeys adds what packages are indexed by that advisories about a name can affect.
func addKeys(seen map[core.PackageKey]bool, ecosystem, name string) {
	k := keyOf(ecosystem, name)
	seen[k] = true
	if k.Ecosystem == maven {
		seen[core.PackageKey{Ecosystem: maven, Name: anyGroup(artifactOf(k.Name))}] = true
	}
}

func sortedKeys(set map[core.PackageKey]bool) []core.PackageKey {
	out := make([]core.PackageKey, 0, len(set))
	for k := range set {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b core.PackageKey) int {
		return cmp.Or(cmp.Compare(a.Ecosystem, b.Ecosystem), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// Changed returns the packages whose findings can differ between two snapshots: no
// other package is affected by a record, or a score, that is new, gone or changed.
// Records are compared by the digests in the index; only those that differ are read.
// The error is ErrCorrupt.
func Changed(old, now *Snapshot) ([]core.PackageKey, error) {
	defer runtime.KeepAlive(old)
	defer runtime.KeepAlive(now)
	seen := map[core.PackageKey]bool{}
	scored, err := changedScores(old, now)
	if err != nil {
		return nil, err
	}
	for i, j := 0, 0; i < old.records() || j < now.records(); {
		order, err := compareRecords(old, i, now, j)
		if err != nil {
			return nil, err
		}
		if order <= 0 {
			err = old.touched(seen, i, scored, order != 0 || !sameRecord(old, i, now, j))
			i++
		}
		if err == nil && order >= 0 {
			err = now.touched(seen, j, scored, order != 0 || !sameRecord(old, i-1, now, j))
			j++
		}
		if err != nil {
			return nil, err
		}
	}
	return sortedKeys(seen), nil
}

// compareRecords compares the ids of two records; the end comes last.
func compareRecords(old *Snapshot, i int, now *Snapshot, j int) (int, error) {
	switch {
	case i == old.records():
		return 1, nil
	case j == now.records():
		return -1, nil
	}
	a, err := old.recordID(i)
	if err != nil {
		return 0, err
	}
	b, err := now.recordID(j)
	return bytes.Compare(a, b), err
}

// sameRecord compares the digests of two records.
func sameRecord(old *Snapshot, i int, now *Snapshot, j int) bool {
	const at, size = 24, 16
	a := old.parts[sectionRecords][i*recordSize+at:][:size]
	b := now.parts[sectionRecords][j*recordSize+at:][:size]
	return bytes.Equal(a, b)
}

// touched adds the packages of a record if it changed, or if it names one of the
// scored vulnerabilities.
func (s *Snapshot) touched(seen map[core.PackageKey]bool, i int, scored map[string]bool, changed bool) error {
	if !changed && len(scored) == 0 {
		return nil
	}
	r, packages, err := s.record(i)
	if err != nil {
		return err
	}
	if !changed && !slices.ContainsFunc(r.ids(), func(id string) bool { return scored[id] }) {
		return nil
	}
	for _, p := range packages {
		ecosystem, name, err := s.packageKey(p)
		if err != nil {
			return err
		}
		addKeys(seen, ecosystem, name)
	}
	return nil
}

// changedScores are the ids whose scores differ.
func changedScores(old, now *Snapshot) (map[string]bool, error) {
	out := map[string]bool{}
	for _, pair := range [][2]*Snapshot{{now, old}, {old, now}} {
		scores, err := pair[0].Scores()
		if err != nil {
			return nil, err
		}
		for _, s := range scores {
			if have := pair[1].score(s.ID); have.KEV != s.KEV || have.EPSS != s.EPSS {
				out[s.ID] = true
			}
		}
	}
	return out, nil
}
