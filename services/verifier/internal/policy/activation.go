package policy

import (
	"math"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// activation gives the variables of rules. They are made once for all rules of a manifest.
type activation struct {
	of      *core.Facts
	adapter types.Adapter

	// checked are variables that were looked at, fit those of them that fit.
	checked, fit variable
}

// variables returns the variables that facts are, kept with them. A copy of the facts
// has variables of its own.
func variables(f *core.Facts, a types.Adapter) *activation {
	if v, ok := f.Memo.(*activation); ok && v.of == f {
		return v
	}
	v := &activation{of: f, adapter: a}
	f.Memo = v
	return v
}

// ResolveName implements cel.Activation.
func (v *activation) ResolveName(name string) (any, bool) {
	switch name {
	case "image":
		return v.of.Image, true
	case "packages":
		return list(v.adapter, v.of.Packages), true
	case "findings":
		return list(v.adapter, v.of.Findings), true
	case "suppressed_findings":
		return list(v.adapter, v.of.Suppressed), true
	case "attestations":
		return list(v.adapter, v.of.Attestations), true
	case "advisories":
		return &v.of.Advisories, true
	case "now":
		return v.of.Now, true
	default:
		return nil, false
	}
}

// Parent implements cel.Activation.
func (*activation) Parent() cel.Activation { return nil }

// fits tells whether the variables are within the sizes that the estimate of costs goes
// by.
func (v *activation) fits(sees variable) bool {
	for _, c := range [...]struct {
		variable
		fits func(*core.Facts) bool
	}{
		{seesImage, fitImage},
		{seesPackages, fitPackages},
		{seesFindings, func(f *core.Facts) bool { return fitFindings(f.Findings) }},
		{seesSuppressed, func(f *core.Facts) bool { return fitFindings(f.Suppressed) }},
		{seesAttestations, func(*core.Facts) bool { return false }},
		{seesAdvisories, func(f *core.Facts) bool { return short(f.Advisories.Digest) }},
	} {
		if sees&c.variable == 0 {
			continue
		}
		if v.checked&c.variable == 0 {
			v.checked |= c.variable
			if c.fits(v.of) {
				v.fit |= c.variable
			}
		}
		if v.fit&c.variable == 0 {
			return false
		}
	}
	return true
}

func fitImage(f *core.Facts) bool {
	i := f.Image
	ok := short(i.Reference, i.Registry, i.Repository, i.Tag, i.Digest, i.Platform, i.User, i.Distro.ID, i.Distro.Version,
		i.BaseImage.Name, i.BaseImage.Digest) &&
		few(i.Entrypoint, i.Cmd, i.ExposedPorts, i.EnvNames, i.SetuidFiles, i.PackageManagers, i.Shells) &&
		len(i.Labels) <= maxShortList && len(i.Secrets) <= maxShortList
	if !ok {
		return false
	}
	for k, l := range i.Labels {
		if !short(k, l) {
			return false
		}
	}
	for _, s := range i.Secrets {
		if !short(s.Kind, s.Location, s.LayerDigest) {
			return false
		}
	}
	return true
}

func fitPackages(f *core.Facts) bool {
	if len(f.Packages) > MaxPackages {
		return false
	}
	for j := range f.Packages {
		p := &f.Packages[j]
		if !short(p.Purl, p.Name, p.Version, p.Ecosystem, p.SourceName, p.SourceVersion, p.Location) || !few(p.Licenses) {
			return false
		}
	}
	return true
}

func fitFindings(all []core.Finding) bool {
	if len(all) > MaxFindings {
		return false
	}
	for j := range all {
		x := &all[j]
		// A score that is not a number compares with nothing.
		if math.IsNaN(x.CVSS) || math.IsNaN(x.EPSS) ||
			!short(x.ID, x.Severity, x.Package, x.Version, x.Purl, x.Location) || !few(x.Aliases, x.FixedVersions) {
			return false
		}
	}
	return true
}

func short(texts ...string) bool {
	for _, t := range texts {
		if len(t) > maxString {
			return false
		}
	}
	return true
}

func few(lists ...[]string) bool {
	for _, l := range lists {
		if len(l) > maxShortList || !short(l...) {
			return false
		}
	}
	return true
}
