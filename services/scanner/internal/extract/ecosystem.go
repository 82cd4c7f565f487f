package extract

import (
	"strings"

	"github.com/google/osv-scalibr/purl"
	"github.com/package-url/packageurl-go"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// Ecosystem is the OSV ecosystem of packages with a type of package URL, in an
// image of a distribution. It is empty if no advisories are known for them.
func Ecosystem(purlType string, of core.Distro) string {
	d := distro{id: of.ID, version: of.Version}
	switch purlType {
	case purl.TypeDebian:
		return d.debEcosystem()
	case purl.TypeApk:
		return d.apkEcosystem()
	case purl.TypeRPM:
		return d.rpmEcosystem()
	case packageurl.TypeBitnami:
		return "Bitnami"
	case purl.TypeGem:
		return "RubyGems"
	case purl.TypeComposer:
		return "Packagist"
	case purl.TypeNuget:
		return "NuGet"
	case purl.TypeCargo:
		return "crates.io"
	case purl.TypeGolang:
		return "Go"
	case purl.TypeNPM:
		return "npm"
	case purl.TypePyPi:
		return "PyPI"
	case purl.TypeMaven:
		return "Maven"
	}
	return ""
}

// GoVersion is the version that advisories compare of a module, or of the standard
// library, as a package URL has it.
func GoVersion(name, version string) string {
	if name == goStdlib {
		return goVersion(strings.TrimPrefix(version, "go"))
	}
	if version == develVersion {
		return ""
	}
	return strings.TrimPrefix(version, "v")
}
