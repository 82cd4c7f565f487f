package advisory

import (
	"regexp"
	"strings"
)

// osv-scalibr compares most versions as the ecosystems do. Where it does not, versions are
// brought into a form that it compares rightly: canonical. And it compares any text, such as
// `dev-master` or `${project.version}`, which then is below or above everything: isVersion
// tells which texts are versions to the ecosystem itself.

// composerVersion is a version of numbers, or a date, as Composer's VersionParser reads it.
var composerVersion = regexp.MustCompile(`(?i)^[v=]*(\d+(?:[.:-]\d{2}){2,6}|\d+(?:\.\d+){0,3})(?:[._-]?(stable|beta|b|rc|alpha|a|patch|pl|p)((?:[.-]?\d+)*))?([.-]?dev)?(?:\+.*)?$`)

// gemVersion is the pattern of Gem::Version.
var gemVersion = regexp.MustCompile(`^\s*[0-9]+(?:\.[0-9a-zA-Z]+)*(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\s*$`)

// pythonVersion is the pattern of PEP 440.
var pythonVersion = regexp.MustCompile(`(?i)^\s*v?(?:\d+!)?\d+(?:\.\d+)*(?:[-_.]?(?:alpha|a|beta|b|preview|pre|c|rc)[-_.]?\d*)?(?:-\d+|[-_.]?(?:post|rev|r)[-_.]?\d*)?(?:[-_.]?dev[-_.]?\d*)?(?:\+[a-z0-9]+(?:[-_.][a-z0-9]+)*)?\s*$`)

// isVersion tells whether an ecosystem, without release, takes a text for a version.
func isVersion(ecosystem, version string) bool {
	switch ecosystem {
	case "Packagist":
		return composerVersion.MatchString(version)
	case "RubyGems":
		return gemVersion.MatchString(version)
	case "PyPI":
		return pythonVersion.MatchString(version)
	case "Maven":
		return strings.ContainsAny(version, "0123456789") && !strings.ContainsAny(version, "${}@ ")
	case "npm", "crates.io", "NuGet", "Go":
		return digits(strings.TrimPrefix(version, "v")) > 0
	}
	return true
}

// canonical is the form of a version that osv-scalibr compares as the ecosystem does. What is no
// version to the ecosystem stays as it is.
func canonical(ecosystem, version string) string {
	switch ecosystem {
	case "Packagist":
		return canonicalComposer(version)
	case "RubyGems":
		// Gem::Version reads `4.0.0-beta.1` as `4.0.0.pre.beta.1`.
		return strings.ReplaceAll(version, "-", ".pre.")
	case "Maven":
		return canonicalMaven(version)
	}
	return version
}

// canonicalComposer gives a version four numbers and its stability the full name, as Composer
// does before it compares: 8.5 is 8.5.0.0.
func canonicalComposer(version string) string {
	m := composerVersion.FindStringSubmatch(version)
	if m == nil {
		return version
	}
	out := strings.NewReplacer("-", ".", ":", ".").Replace(m[1])
	for n := strings.Count(out, "."); n < 3; n++ {
		out += ".0"
	}
	number := strings.TrimLeft(strings.ReplaceAll(m[3], "-", "."), ".")
	switch stability := strings.ToLower(m[2]); stability {
	case "", "stable":
	case "a", "alpha":
		out += "-alpha" + number
	case "b", "beta":
		out += "-beta" + number
	case "rc":
		out += "-RC" + number
	default:
		out += "-patch" + number
	}
	if m[4] != "" {
		out += "-dev"
	}
	return out
}

// canonicalMaven separates a qualifier with a hyphen: to Maven `1.1.0.Beta4` is `1.1.0-Beta4`,
// to osv-scalibr it is below every version with a hyphen, or above it.
func canonicalMaven(version string) string {
	var out []byte
	for i := 1; i+1 < len(version); i++ {
		if c := version[i+1]; version[i] == '.' && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
			if out == nil {
				out = []byte(version)
			}
			out[i] = '-'
		}
	}
	if out == nil {
		return version
	}
	return string(out)
}
