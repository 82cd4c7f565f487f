package advisory

import (
	"cmp"
	"strings"

	"github.com/google/osv-scalibr/semantic"
)

// order compares one version with others by the rules of an ecosystem: those of
// osv-scalibr. Nearly all versions have a plain form that can be compared in place;
// a fuzz test holds that to the same answers. The others are parsed each time.
type order struct {
	ecosystem string
	version   string
	plain     func(a, b string) (c int, ok bool)
	parsed    semantic.Version
}

// newOrder returns the order around a version. The error says that the version, or
// those of the ecosystem, cannot be compared.
func newOrder(ecosystem, version string) (*order, error) {
	o := &order{ecosystem: ecosystem, version: version, plain: plainOrder(baseEcosystem(ecosystem))}
	if o.plain != nil {
		if _, ok := o.plain(version, version); ok {
			return o, nil
		}
	}
	var err error
	o.parsed, err = parseVersion(ecosystem, version)
	return o, err
}

// compare is negative if the version is below the other.
func (o *order) compare(other string) (int, error) {
	if o.plain != nil {
		if c, ok := o.plain(o.version, other); ok {
			return c, nil
		}
	}
	if o.parsed == nil {
		var err error
		if o.parsed, err = parseVersion(o.ecosystem, strings.Clone(o.version)); err != nil {
			return 0, err
		}
	}
	parsed, err := parseVersion(o.ecosystem, strings.Clone(other))
	if err != nil {
		return 0, err
	}
	return o.parsed.Compare(parsed)
}

// with compares two versions of one ecosystem and keeps both parsed for the next time.
func (o *order) with(other *order) (int, error) {
	if o.plain != nil {
		if c, ok := o.plain(o.version, other.version); ok {
			return c, nil
		}
	}
	for _, p := range []*order{o, other} {
		if p.parsed == nil {
			var err error
			if p.parsed, err = parseVersion(p.ecosystem, p.version); err != nil {
				return 0, err
			}
		}
	}
	return o.parsed.Compare(other.parsed)
}

// plainOrder is the comparison of plain versions of an ecosystem, without release;
// nil if there is none.
func plainOrder(base string) func(a, b string) (int, bool) {
	switch base {
	case "Go", "npm", "crates.io", "Bitnami", "Hex", "Julia", "SwiftURL", "ConanCenter":
		return plainSemver
	case "PyPI", "Maven", "RubyGems":
		return plainNumbers
	case "Debian", "Ubuntu":
		return plainDebian
	case "Alpine", "Wolfi", "Chainguard":
		return plainAlpine
	}
	return nil
}

// digits is the length of the number that s begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// compareDigits compares two numbers of any length.
func compareDigits(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return cmp.Compare(len(a), len(b))
	}
	return strings.Compare(a, b)
}

// number takes a number that stands before a dot, or before the end of the numbers.
// At the end of s it is nothing, which counts as 0.
func number(s string) (n, rest string, ok bool) {
	if s == "" {
		return "", "", true
	}
	i := digits(s)
	if i == 0 {
		return "", "", false
	}
	n, rest = s[:i], s[i:]
	if len(rest) > 1 && rest[0] == '.' {
		return n, rest[1:], true
	}
	return n, rest, rest == ""
}

// plainNumbers compares versions that consist of numbers and dots. What one of them
// does not have is 0.
func plainNumbers(a, b string) (int, bool) {
	if a == "" || b == "" {
		return 0, false
	}
	result := 0
	for a != "" || b != "" {
		var x, y string
		var okA, okB bool
		x, a, okA = number(a)
		y, b, okB = number(b)
		if !okA || !okB {
			return 0, false
		}
		if result == 0 {
			result = compareDigits(x, y)
		}
	}
	return result, true
}

// plainSemver compares semantic versions of at most three numbers.
func plainSemver(a, b string) (int, bool) {
	coreA, preA, okA := splitSemver(a)
	coreB, preB, okB := splitSemver(b)
	if !okA || !okB {
		return 0, false
	}
	c, ok := plainNumbers(coreA, coreB)
	switch {
	case !ok || c != 0:
		return c, ok
	case preA == "" || preB == "":
		// Without is above with.
		return cmp.Compare(len(preB), len(preA)), true
	}
	for preA != "" && preB != "" {
		var x, y string
		x, preA, _ = strings.Cut(preA, ".")
		y, preB, _ = strings.Cut(preB, ".")
		if c := comparePrerelease(x, y); c != 0 {
			return c, true
		}
	}
	return cmp.Compare(len(preA), len(preB)), true
}

// splitSemver takes a version apart. It is not ok if there are more than three
// numbers or if an identifier before the release is empty or has a sign.
func splitSemver(v string) (core, prerelease string, ok bool) {
	v = strings.TrimPrefix(v, "v")
	if i := strings.IndexByte(v, '+'); i >= 0 {
		v = v[:i]
	}
	core = v
	if i := strings.IndexByte(v, '-'); i >= 0 {
		core, prerelease = v[:i], v[i+1:]
		previous := byte('.')
		for j := range len(prerelease) {
			c := prerelease[j]
			if previous == '.' && (c == '.' || c == '-') || c >= 0x80 || c == ' ' {
				return "", "", false
			}
			previous = c
		}
		if previous == '.' {
			return "", "", false
		}
	}
	return core, prerelease, core != "" && strings.Count(core, ".") <= 2
}

func comparePrerelease(a, b string) int {
	numberA, numberB := digits(a) == len(a), digits(b) == len(b)
	switch {
	case numberA && numberB:
		return compareDigits(a, b)
	case numberA:
		return -1
	case numberB:
		return 1
	}
	return strings.Compare(a, b)
}

// plainDebian compares Debian versions of ASCII characters.
func plainDebian(a, b string) (int, bool) {
	epochA, upstreamA, revisionA, okA := splitDebian(a)
	epochB, upstreamB, revisionB, okB := splitDebian(b)
	if !okA || !okB {
		return 0, false
	}
	return cmp.Or(compareDigits(epochA, epochB), compareDebian(upstreamA, upstreamB), compareDebian(revisionA, revisionB)), true
}

func splitDebian(v string) (epoch, upstream, revision string, ok bool) {
	for i := range len(v) {
		if v[i] <= ' ' || v[i] >= 0x7f {
			return "", "", "", false
		}
	}
	if i := strings.IndexByte(v, ':'); i >= 0 {
		epoch, v = v[:i], v[i+1:]
		if epoch == "" || digits(epoch) != len(epoch) {
			return "", "", "", false
		}
	}
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return epoch, v[:i], v[i+1:], true
	}
	return epoch, v, "0", true
}

// compareDebian compares a part of two versions: what is no number by characters,
// numbers by value, in turns.
func compareDebian(a, b string) int {
	for a != "" || b != "" {
		for (a != "" && digits(a[:1]) == 0) || (b != "" && digits(b[:1]) == 0) {
			if c := cmp.Compare(debianWeight(a), debianWeight(b)); c != 0 {
				return c
			}
			a, b = a[1:], b[1:]
		}
		i, j := digits(a), digits(b)
		if c := compareDigits(a[:i], b[:j]); c != 0 {
			return c
		}
		a, b = a[i:], b[j:]
	}
	return 0
}

// debianWeight orders the character that s begins with: a tilde is below the end,
// letters are above it and below all others.
func debianWeight(s string) int {
	switch {
	case s == "" || digits(s[:1]) > 0:
		return 0
	case s[0] == '~':
		return -1
	case s[0] >= 'A' && s[0] <= 'Z' || s[0] >= 'a' && s[0] <= 'z':
		return int(s[0])
	}
	return int(s[0]) + 256
}

// plainAlpine compares Alpine versions of numbers and a revision.
func plainAlpine(a, b string) (int, bool) {
	coreA, revisionA, okA := splitAlpine(a)
	coreB, revisionB, okB := splitAlpine(b)
	if !okA || !okB {
		return 0, false
	}
	c, ok := plainNumbers(coreA, coreB)
	return cmp.Or(c, compareDigits(revisionA, revisionB)), ok
}

// splitAlpine is not ok for numbers with zeros before them: these compare by
// characters.
func splitAlpine(v string) (core, revision string, ok bool) {
	i := strings.Index(v, "-r")
	if i < 0 || i+2 == len(v) || digits(v[i+2:]) != len(v)-i-2 {
		return "", "", false
	}
	core, revision = v[:i], v[i+2:]
	for j := range len(core) {
		if core[j] == '0' && (j == 0 || core[j-1] == '.') && j+1 < len(core) && core[j+1] != '.' {
			return "", "", false
		}
	}
	return core, revision, true
}
