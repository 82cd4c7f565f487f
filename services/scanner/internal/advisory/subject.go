package advisory

import (
	"regexp"
	"slices"
	"strings"

	"github.com/package-url/packageurl-go"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// subject is a package as advisories speak of it.
type subject struct {
	// ecosystems are the package's own, and the one of all its releases.
	ecosystems    []string
	name, version string
	// others are more names that advisories may have for it.
	others []string
	// stream is the module and stream of an rpm package, for example `nodejs:16`;
	// anyStream if it is of one that nobody named, empty if it is of none.
	stream string
	rpm    bool
}

// anyStream stands for a module stream that is not known.
const anyStream = "?"

func newSubject(p *core.Package) subject {
	base := baseEcosystem(p.Ecosystem)
	s := subject{ecosystems: []string{p.Ecosystem}, rpm: isRPM(base)}
	if base != p.Ecosystem {
		// A record for `Debian` speaks of every release.
		s.ecosystems = append(s.ecosystems, base)
	}
	s.name = normalizeName(base, p.AdvisoryName())
	s.version = normalizeVersion(base, s.name, p.AdvisoryVersion())
	if s.rpm {
		s.ofRPM(p)
	}
	return s
}

func (s *subject) judged() bool { return s.ecosystems[0] != "" && s.name != "" }

// ofRPM reads what is special to rpm: versions compare with their epoch, and within
// one stream of a module. Both may stand in the package URL only.
func (s *subject) ofRPM(p *core.Package) {
	qualifiers := map[string]string{}
	if strings.Contains(p.PURL, "?") {
		if parsed, err := packageurl.FromString(p.PURL); err == nil {
			qualifiers = parsed.Qualifiers.Map()
		}
	}
	if epoch := qualifiers["epoch"]; epoch != "" && epoch != "0" && !strings.Contains(s.version, ":") {
		s.version = epoch + ":" + s.version
	}
	for _, key := range []string{"rpmmod", "modularitylabel"} {
		if stream := streamOfLabel(qualifiers[key]); stream != "" {
			s.stream = stream
			return
		}
	}
	if isModular(s.version) {
		s.stream = anyStream
	}
}

// sameStream tells whether an entry for a module stream can be about the package.
// The versions of different streams cannot be compared with each other. A stream
// that is not known may be any.
func (s *subject) sameStream(stream []byte) bool {
	if !s.rpm {
		return true
	}
	have := string(stream)
	switch {
	case have == "" || s.stream == "":
		return have == s.stream
	case have == anyStream || s.stream == anyStream:
		return true
	}
	return have == s.stream
}

// streamOfLabel is the module and stream of a label such as
// `nodejs:16:8060020220523160029:ad008a3a`.
func streamOfLabel(label string) string {
	module, rest, ok := strings.Cut(label, ":")
	stream, _, _ := strings.Cut(rest, ":")
	if !ok || module == "" || stream == "" {
		return ""
	}
	return module + ":" + stream
}

// isModular recognises the release of a package that was built in a module, for
// example `1.module_el8.6.0+2867+72759d2f`.
func isModular(version string) bool { return strings.Contains(version, ".module") }

// RPMEcosystems are the ecosystems with rpm packages, without their releases.
func RPMEcosystems() []string {
	return []string{"AlmaLinux", "Rocky Linux", "Red Hat", "openSUSE", "SUSE", "Mageia", "openEuler", "Azure Linux"}
}

// isRPM tells whether an ecosystem, without its release, has rpm packages.
func isRPM(base string) bool { return slices.Contains(RPMEcosystems(), base) }

// normalizeName brings a package's name into the one form its ecosystem takes for
// equal. The ecosystem has no release.
func normalizeName(ecosystem, name string) string {
	switch ecosystem {
	case "PyPI":
		return core.NormalizePyPI(name)
	case "NuGet", "Packagist":
		return strings.ToLower(name)
	case "Maven":
		// A coordinate has no space, but some are written with one.
		return strings.ReplaceAll(name, " ", "")
	}
	return name
}

// goVersion is a version of the Go distribution: `1.21.3`, `1.21rc2`, with or
// without `go` before it; what follows a space or a hyphen is a vendor's.
var goVersion = regexp.MustCompile(`^(?:go)?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-?(rc|beta)\.?(\d+))?(?:[ +-].*)?$`)

// bitnamiRevision is how often Bitnami built a version, as in `6.2.1-3`. Its advisories are
// about the version alone, by the rules of semantic versions, which take this for a version
// before 6.2.1.
var bitnamiRevision = regexp.MustCompile(`-\d+$`)

// normalizeVersion brings a version into the form that advisories of the ecosystem
// use. They give those of Go itself as semantic versions.
func normalizeVersion(ecosystem, name, version string) string {
	version = strings.TrimSpace(version)
	if ecosystem == "npm" {
		return strings.TrimLeft(version, "v= ") // as npm installs it
	}
	if ecosystem == "Bitnami" {
		return bitnamiRevision.ReplaceAllString(version, "")
	}
	if ecosystem != "Go" || name != "stdlib" && name != "toolchain" {
		return version
	}
	m := goVersion.FindStringSubmatch(version)
	if m == nil {
		return version
	}
	for i := 2; i <= 3; i++ {
		if m[i] == "" {
			m[i] = "0"
		}
	}
	out := m[1] + "." + m[2] + "." + m[3]
	if m[4] != "" {
		out += "-" + m[4] + "." + m[5]
	}
	return out
}
