package advisory

import (
	"reflect"
	"slices"
	"strings"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

func keyOf(ecosystem, name string) core.PackageKey {
	base, _, _ := strings.Cut(ecosystem, ":")
	return core.PackageKey{Ecosystem: base, Name: normalizeName(base, name)}
}

// Keys are what packages are found by: the name that advisories use, and the
// package's own. They are without doubles.
func Keys(packages []core.Package) []core.PackageKey {
	seen := map[core.PackageKey]bool{}
	out := []core.PackageKey{}
	for i := range packages {
		p := &packages[i]
		for _, k := range []core.PackageKey{keyOf(p.Ecosystem, p.AdvisoryName()), keyOf(p.Ecosystem, p.Name)} {
			if !seen[k] {
				seen[k] = true
				out = append(out, k)
			}
		}
	}
	return out
}

// Changed returns the packages whose findings can differ between two snapshots: no
// other package is affected by a record, or a score, that is new, gone or changed.
func Changed(old, now *Snapshot) []core.PackageKey {
	seen := map[core.PackageKey]bool{}
	add := func(r *Record) {
		for i := range r.Affected {
			seen[keyOf(r.Affected[i].Ecosystem, r.Affected[i].Name)] = true
		}
	}
	scored := changedScores(old, now)
	i, j := 0, 0
	for i < len(old.records) || j < len(now.records) {
		switch {
		case j == len(now.records) || i < len(old.records) && old.records[i].ID < now.records[j].ID:
			add(old.records[i])
			i++
		case i == len(old.records) || old.records[i].ID > now.records[j].ID:
			add(now.records[j])
			j++
		default:
			a, b := old.records[i], now.records[j]
			if !a.Modified.Equal(b.Modified) || !reflect.DeepEqual(a, b) {
				add(a)
				add(b)
			} else if len(scored) > 0 && a.namesAny(scored) {
				add(a)
			}
			i++
			j++
		}
	}
	out := make([]core.PackageKey, 0, len(seen))
	for k := range seen {
		out = append(out, k)
	}
	return out
}

// changedScores are the ids whose scores differ.
func changedScores(old, now *Snapshot) map[string]bool {
	out := map[string]bool{}
	for _, s := range now.scores {
		if old.score(s.ID) != s {
			out[s.ID] = true
		}
	}
	for _, s := range old.scores {
		if now.score(s.ID) != s {
			out[s.ID] = true
		}
	}
	return out
}

func (r *Record) namesAny(ids map[string]bool) bool {
	is := func(id string) bool { return ids[id] }
	return ids[r.ID] || slices.ContainsFunc(r.Aliases, is) || slices.ContainsFunc(r.Upstream, is)
}
