package advisory

import (
	"slices"
	"strings"

	"github.com/package-url/packageurl-go"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// A Java archive that was not built by Maven does not name its group. Its package URL has clues
// instead, and the group:artifact names that the advisories themselves speak of decide what it
// may be. So the advisories of tomorrow are matched with the inventories of today.

const maven = "Maven"

// jar has the clues of a Java archive.
type jar struct{ artifacts, packages, claims []string }

// jarOf reads the clues of a package; nil if its coordinates are known.
func jarOf(p *core.Package) *jar {
	if p.Ecosystem != maven || !strings.Contains(p.PURL, core.QualifierArtifacts+"=") {
		return nil
	}
	u, err := packageurl.FromString(p.PURL)
	if err != nil {
		return nil
	}
	q := u.Qualifiers.Map()
	list := func(key string) []string {
		if q[key] == "" {
			return nil
		}
		return strings.Split(q[key], ",")
	}
	if j := (jar{list(core.QualifierArtifacts), list(core.QualifierPackages), list(core.QualifierClaims)}); len(j.artifacts) > 0 {
		return &j
	}
	return nil
}

// anyGroup is what packages with an artifact are indexed by whose group is not known.
func anyGroup(artifact string) string { return ":" + artifact }

// artifactOf is the artifact of a name of Maven.
func artifactOf(name string) string { return name[strings.LastIndexByte(name, ':')+1:] }

// mavenGroups are the groups that advisories speak of, by artifact.
func (s *Snapshot) mavenGroups() (map[string][]string, error) {
	s.mavenOnce.Do(func() {
		s.maven = map[string][]string{}
		for i := range s.packages() {
			ecosystem, name, err := s.packageKey(i)
			if err != nil {
				s.mavenError = err
				return
			}
			if group, artifact, ok := strings.Cut(name, ":"); ok && ecosystem == maven {
				s.maven[artifact] = append(s.maven[artifact], group)
			}
		}
		for _, groups := range s.maven {
			slices.Sort(groups)
		}
	})
	return s.maven, s.mavenError
}

// identify returns the names that advisories may have for an archive. Those in likely are
// consistent with all that is known of it; those in possible are not ruled out.
func (s *Snapshot) identify(j *jar) (likely, possible []string, err error) {
	groups, err := s.mavenGroups()
	for _, artifact := range j.artifacts {
		for _, group := range groups[artifact] {
			name := group + ":" + artifact
			switch j.fits(group, artifact, len(groups[artifact]) == 1) {
			case fitsWell:
				likely = append(likely, name)
			case fitsMaybe:
				possible = append(possible, name)
			case fitsNot:
			}
		}
	}
	return likely, possible, err
}

type fit int

const (
	fitsNot fit = iota
	fitsMaybe
	fitsWell
)

// fits tells whether an archive may be of a group. What a manifest says is never held against
// one: whoever wrote it may lie. Classes are, since code has to be where it is called.
func (j *jar) fits(group, artifact string, only bool) fit {
	switch {
	case slices.ContainsFunc(slices.Concat(j.packages, j.claims), func(p string) bool { return sameRoot(group, p) }),
		slices.ContainsFunc(j.packages, func(p string) bool { return p == core.AnyPackage || namedAfter(p, group, artifact) }):
		return fitsWell
	case len(j.packages) == 0 && only:
		return fitsWell
	case len(j.packages) == 0, only && strings.ContainsAny(artifact, "-."):
		return fitsMaybe
	}
	return fitsNot
}

// sameRoot tells whether a group and the name of a Java package begin with the same two parts.
func sameRoot(group, name string) bool {
	g, n := strings.Split(strings.ToLower(group), "."), strings.Split(strings.ToLower(name), ".")
	return len(g) > 1 && len(n) > 1 && g[0] == n[0] && g[1] == n[1] || group == name
}

// namedAfter tells whether a Java package has the name of the group or artifact: org.h2 of
// com.h2database:h2, okhttp3 of com.squareup.okhttp3:okhttp, org.apache.log4j of log4j:log4j.
func namedAfter(name, group, artifact string) bool {
	parts := strings.Split(strings.ToLower(name), ".")
	if strings.Contains(group, ".") {
		// The third part of another's package may well be `core`.
		parts = parts[:min(len(parts), 2)]
	}
	words := strings.FieldsFunc(strings.ToLower(group[strings.LastIndexByte(group, '.')+1:]+"-"+artifact), func(r rune) bool { return r == '-' || r == '_' || r == '.' })
	words = append(words, strings.ToLower(artifact))
	return slices.ContainsFunc(parts, func(p string) bool {
		return slices.Contains(words, p) && p != "org" && p != "com" && p != "net" && p != "io" && p != "apache"
	})
}
