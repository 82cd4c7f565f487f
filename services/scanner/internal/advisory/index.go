package advisory

import (
	"errors"
	"reflect"
	"runtime"
	"slices"
	"strings"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// Index tells what stored inventories are searched for by: one entry a package, and of a Java
// archive whose group is not known one for each artifact that it may be. It is never nil.
func Index(packages []core.Package) []core.IndexedPackage {
	out := make([]core.IndexedPackage, len(packages))
	var guessed []core.IndexedPackage
	for i := range packages {
		p := &packages[i]
		s := newSubject(p)
		base := baseEcosystem(p.Ecosystem)
		out[i] = core.IndexedPackage{
			PackageVersion: core.PackageVersion{Ecosystem: p.Ecosystem, Name: s.name, Version: s.version, Stream: s.stream},
			Base:           base, OwnName: normalizeName(base, p.Name), Layer: p.LayerDigest,
		}
		if j := jarOf(p); j != nil {
			for _, artifact := range j.artifacts {
				g := out[i]
				g.Name, g.OwnName = anyGroup(artifact), anyGroup(artifact)
				guessed = append(guessed, g)
			}
		}
	}
	return slices.Concat(out, guessed)
}

// judge returns the findings of a package version, without a place.
func (s *Snapshot) judge(v *core.PackageVersion) ([]core.Finding, error) {
	base := baseEcosystem(v.Ecosystem)
	subject := subject{ecosystems: []string{v.Ecosystem}, name: v.Name, version: v.Version, stream: v.Stream, rpm: isRPM(base)}
	if base != v.Ecosystem {
		subject.ecosystems = append(subject.ecosystems, base)
	}
	if !subject.judged() {
		return nil, nil
	}
	if artifact, ok := strings.CutPrefix(v.Name, ":"); ok && base == maven {
		groups, err := s.mavenGroups()
		if err != nil {
			return nil, err
		}
		for _, group := range groups[artifact] {
			subject.others = append(subject.others, group+":"+artifact)
		}
	}
	hits, err := s.hits(&subject)
	return s.merge(&core.Package{Name: v.Name, Version: v.Version, Ecosystem: v.Ecosystem}, hits), err
}

// Differs returns what tells whether the findings of a package version, or whether it
// can be judged at all, differ between two snapshots.
func Differs(old, now *Snapshot) func(v core.PackageVersion) bool {
	return func(v core.PackageVersion) bool {
		defer runtime.KeepAlive(old)
		defer runtime.KeepAlive(now)
		before, errBefore := old.judge(&v)
		after, errAfter := now.judge(&v)
		if errors.Is(errBefore, ErrCorrupt) || errors.Is(errAfter, ErrCorrupt) {
			return true
		}
		return (errBefore == nil) != (errAfter == nil) || !reflect.DeepEqual(before, after)
	}
}
