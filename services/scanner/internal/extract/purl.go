package extract

import (
	"strings"

	"github.com/google/osv-scalibr/purl"
	"github.com/package-url/packageurl-go"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// pkg makes a package of a found one, now that its distribution is known. The layer is
// not told.
func (f *found) pkg(d distro, location string) core.Package {
	p := core.Package{
		Name: f.name, Version: f.version,
		SourceName: f.sourceName, SourceVersion: f.sourceVersion,
		Location: location, Licenses: f.licenses,
		Ecosystem: Ecosystem(f.purlType, core.Distro{ID: d.id, Version: d.version}),
	}
	switch f.purlType {
	case purl.TypeDebian:
		p.PURL = f.osPURL(d, "debian")
	case purl.TypeApk:
		p.PURL = f.osPURL(d, "alpine")
	case purl.TypeRPM:
		p.PURL = f.osPURL(d, "")
		if d.advisoriesByBinary() {
			p.SourceName, p.SourceVersion = "", ""
		}
	case packageurl.TypeBitnami, purl.TypePacman, purl.TypePortage, purl.TypeOpkg:
		p.PURL = packageurl.NewPackageURL(f.purlType, "", f.name, f.version, nil, "").ToString()
	case purl.TypeGem:
		p.PURL = packageurl.NewPackageURL(packageurl.TypeGem, "", f.name, f.version, nil, "").ToString()
	case purl.TypeComposer:
		namespace, name := splitLast(strings.ToLower(f.name), "/")
		p.PURL = packageurl.NewPackageURL(packageurl.TypeComposer, namespace, name, f.version, nil, "").ToString()
	case purl.TypeNuget:
		p.PURL = packageurl.NewPackageURL(packageurl.TypeNuget, "", f.name, f.version, nil, "").ToString()
	case purl.TypeCargo:
		p.PURL = packageurl.NewPackageURL(packageurl.TypeCargo, "", f.name, f.version, nil, "").ToString()
	case purl.TypeGolang:
		p.PURL = f.goPURL()
	case purl.TypeNPM:
		namespace, name := splitLast(f.name, "/")
		p.PURL = packageurl.NewPackageURL(packageurl.TypeNPM, strings.ToLower(namespace), strings.ToLower(name), f.version, nil, "").ToString()
	case purl.TypePyPi:
		p.PURL = packageurl.NewPackageURL(packageurl.TypePyPi, "", core.NormalizePyPI(f.name), f.version, nil, "").ToString()
	case purl.TypeMaven:
		group, artifact, _ := strings.Cut(f.name, ":")
		p.PURL = packageurl.NewPackageURL(packageurl.TypeMaven, group, artifact, f.version, f.jar.qualifiers(), "").ToString()
	default:
		p.PURL = packageurl.NewPackageURL(packageurl.TypeGeneric, "", f.name, f.version, nil, "").ToString()
	}
	return p
}

func (c *jarClues) qualifiers() packageurl.Qualifiers {
	if c == nil {
		return nil
	}
	var q packageurl.Qualifiers
	for _, v := range []struct {
		key  string
		list []string
	}{{core.QualifierArtifacts, c.artifacts}, {core.QualifierClaims, c.claims}, {core.QualifierPackages, c.packages}} {
		if len(v.list) > 0 {
			q = append(q, packageurl.Qualifier{Key: v.key, Value: strings.Join(v.list, ",")})
		}
	}
	return q
}

// osPURL follows the purl specification for deb, apk and rpm; `upstream` is what syft
// and grype call the source package.
func (f *found) osPURL(d distro, fallback string) string {
	namespace := d.id
	if namespace == "" {
		namespace = fallback
	}
	var q packageurl.Qualifiers
	add := func(key, value string) {
		if value != "" {
			q = append(q, packageurl.Qualifier{Key: key, Value: value})
		}
	}
	add("arch", f.arch)
	if d.id != "" && d.version != "" {
		add("distro", d.id+"-"+d.version)
	}
	switch {
	case f.sourceName != "" && f.sourceVersion != "":
		add("upstream", f.sourceName+"@"+f.sourceVersion)
	case f.sourceName != "":
		add("upstream", f.sourceName)
	case f.sourceVersion != "":
		add("upstream", f.name+"@"+f.sourceVersion)
	}
	kind, version := packageurl.TypeDebian, f.version
	switch f.purlType {
	case purl.TypeApk:
		kind = packageurl.TypeApk
	case purl.TypeRPM:
		kind, namespace = packageurl.TypeRPM, rpmNamespace(namespace)
		// The specification keeps the epoch out of the version.
		if epoch, rest, ok := strings.Cut(version, ":"); ok {
			version = rest
			add("epoch", epoch)
		}
		add("rpmmod", f.module)
	}
	return packageurl.NewPackageURL(kind, namespace, f.name, version, q, "").ToString()
}

// rpmNamespace is the vendor, which the purl specification asks for.
func rpmNamespace(id string) string {
	switch id {
	case "rhel":
		return "redhat"
	case "sles", "sled", "sle_hpc":
		return "suse"
	case "opensuse-leap", "opensuse-tumbleweed":
		return "opensuse"
	}
	return id
}

// goPURL gives module versions their `v`, as the module has it; the standard
// library is no module and has none.
func (f *found) goPURL() string {
	if f.name == goStdlib {
		return packageurl.NewPackageURL(packageurl.TypeGolang, "", f.name, f.version, nil, "").ToString()
	}
	version := f.version
	if version != "" && version[0] >= '0' && version[0] <= '9' {
		version = "v" + version
	}
	namespace, name := splitLast(f.name, "/")
	return packageurl.NewPackageURL(packageurl.TypeGolang, namespace, name, version, nil, "").ToString()
}

func splitLast(s, sep string) (before, after string) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):]
	}
	return "", s
}
