package main

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"
)

// Classes of differences; docs/accuracy.md explains each of them.
const (
	classOwned      = "owned by a dpkg package"
	classNoVersion  = "without a version"
	classNotInstall = "listed in a lockfile, not there"
	classInstalled  = "there, not listed in a lockfile"
	classGuess      = "another guess where a jar does not say what it is"
	classFileName   = "named again after its file"
	classInner      = "jar that carries only another's pom.properties"
	classOtherKind  = "kinds that are not compared"
)

// compared are the kinds that inventories are compared for.
var compared = []string{"deb", "golang", "npm", "pypi", "maven"}

// inventories prints a table of counts and explains every difference.
func (r *runner) inventories(image string, ours *report, peers []peer) {
	places := places{}
	for _, p := range ours.Packages {
		places.add(p.Location, p.Version)
	}
	for _, p := range peers {
		mine := ours.packages(p.bySource)
		r.printf("| kind | ours | %s | only ours | only %s | why |\n|---|---:|---:|---:|---:|---|\n", p.name, p.name)
		for _, kind := range compared {
			a, b := ofKind(mine, kind), ofKind(p.packages, kind)
			if len(a) == 0 && len(b) == 0 {
				continue
			}
			onlyOurs, onlyTheirs := minus(a, b), minus(b, a)
			why := map[string]int{}
			for _, k := range onlyOurs {
				why[r.explain(image, p, k, a, b, p.places, true)]++
			}
			for _, k := range onlyTheirs {
				why[r.explain(image, p, k, b, a, places, false)]++
			}
			r.printf("| %s | %d | %d | %d | %d | %s |\n", kind, len(a), len(b), len(onlyOurs), len(onlyTheirs), counts(why))
		}
		if n := len(p.packages) - total(p.packages); n > 0 {
			r.printf("| other | | %d | | %d | %s |\n", n, n, classOtherKind)
		}
		r.printf("\n")
	}
}

// explain gives the class of a difference, and prints one that has none. at is
// where the other tool found something.
func (r *runner) explain(image string, p peer, k pkg, have, other inventory, at places, oursOnly bool) string {
	debian := image == "debian" || image == "mixed"
	switch {
	case !oursOnly && debian && (k.kind == "pypi" || k.kind == "maven"):
		return classOwned
	case !oursOnly && (k.version == "" || k.version == "UNKNOWN"):
		return classNoVersion
	case k.kind == "npm" && p.name == "osv-scanner" && oursOnly:
		return classInstalled
	case k.kind == "npm" && p.name == "osv-scanner":
		return classNotInstall
	case k.kind == "maven" && !oursOnly && namedAfterFile(k, have[k]) && !sameArtifact(k, other):
		if !at[versionAt{have[k], k.version}] {
			return classInner
		}
		return classFileName
	case k.kind == "maven" && (sameArtifact(k, other) || at[versionAt{have[k], ""}]):
		return classGuess
	}
	r.failed = true
	r.printf("**not explained**: %s %s %s at %s, only %s\n", k.kind, k.name, k.version, have[k], map[bool]string{true: "ours", false: p.name}[oursOnly])
	return "not explained"
}

// sameArtifact: the other tool has the artifact in that version under another group.
func sameArtifact(k pkg, other inventory) bool {
	_, artifact, _ := strings.Cut(k.name, ":")
	for o := range other {
		if o.version == k.version && strings.HasSuffix(o.name, ":"+artifact) {
			return true
		}
	}
	return false
}

func namedAfterFile(k pkg, location string) bool {
	_, artifact, _ := strings.Cut(k.name, ":")
	return path.Base(location) == artifact+".jar"
}

// findings compares vulnerabilities of packages that both tools found.
func (r *runner) findings(image string, ours *report, p peer) {
	type place struct{ purl, location string }
	at := map[place]pkg{}
	for _, q := range ours.Packages {
		kind, name := kindOf(q.PURL), q.Name
		if kind == "deb" && q.SourceName != "" {
			name = q.SourceName
		}
		at[place{q.PURL, q.Location}] = plain(kind, name, q.Version)
	}
	mine := map[pkg]map[string]bool{}
	for _, f := range ours.Findings {
		k := at[place{f.PURL, f.Location}]
		if mine[k] == nil {
			mine[k] = map[string]bool{}
		}
		for _, id := range append(f.Aliases, f.ID) {
			mine[k][bare(id)] = true
		}
	}
	packages := ours.packages(true)
	type row struct{ both, ours, theirs, absent int }
	rows := map[string]*row{}
	for _, k := range slices.SortedFunc(maps.Keys(union(mine, p.findings)), comparePkg) {
		if rows[k.kind] == nil {
			rows[k.kind] = &row{}
		}
		c := rows[k.kind]
		theirs := map[string]bool{}
		for _, id := range p.findings[k] {
			theirs[bare(id)] = true
		}
		_, oursHas := packages[k]
		_, theyHave := p.packages[k]
		for id := range theirs {
			switch {
			case mine[k][id]:
				c.both++
			case !oursHas:
				c.absent++
			default:
				c.theirs++
				r.unexplained(k, id, p.name)
			}
		}
		for id := range mine[k] {
			switch {
			case theirs[id]:
			case !theyHave:
				c.absent++
			default:
				c.ours++
				r.unexplained(k, id, "ours")
			}
		}
	}
	r.printf("| findings (ids) | both | only ours | only %s | of packages that one tool has not |\n|---|---:|---:|---:|---:|\n", p.name)
	for _, kind := range slices.Sorted(maps.Keys(rows)) {
		c := rows[kind]
		r.printf("| %s | %d | %d | %d | %d |\n", kind, c.both, c.ours, c.theirs, c.absent)
	}
	r.printf("\n")
}

func (r *runner) unexplained(k pkg, id, who string) {
	r.failed = true
	r.printf("**not explained**: %s of %s %s %s, only %s\n", id, k.kind, k.name, k.version, who)
}

// bare takes the name of the database off an id that is a CVE's.
func bare(id string) string {
	if i := strings.Index(id, "CVE-"); i > 0 {
		return id[i:]
	}
	return id
}

func comparePkg(a, b pkg) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name), cmp.Compare(a.version, b.version))
}

func union(a map[pkg]map[string]bool, b map[pkg][]string) map[pkg]bool {
	out := map[pkg]bool{}
	for k := range a {
		out[k] = true
	}
	for k := range b {
		out[k] = true
	}
	return out
}

func ofKind(all inventory, kind string) inventory {
	out := inventory{}
	for k, v := range all {
		if k.kind == kind {
			out[k] = v
		}
	}
	return out
}

func total(all inventory) int {
	n := 0
	for _, kind := range compared {
		n += len(ofKind(all, kind))
	}
	return n
}

func minus(a, b inventory) []pkg {
	var out []pkg
	for _, k := range slices.SortedFunc(maps.Keys(a), comparePkg) {
		if _, ok := b[k]; !ok {
			out = append(out, k)
		}
	}
	return out
}

func counts(m map[string]int) string {
	var out []string
	out = append(out, slices.Sorted(maps.Keys(m))...)
	return strings.Join(out, "; ")
}
