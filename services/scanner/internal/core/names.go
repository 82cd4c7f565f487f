package core

import "strings"

// NormalizePyPI is the one form of a name of the Python Package Index (PEP 503): in
// lower case, with one hyphen for each run of hyphens, underscores and dots.
func NormalizePyPI(name string) string {
	var b strings.Builder
	b.Grow(len(name))
	separated := false
	for _, r := range strings.ToLower(name) {
		if r == '-' || r == '_' || r == '.' {
			separated = true
			continue
		}
		if separated {
			b.WriteByte('-')
			separated = false
		}
		b.WriteRune(r)
	}
	if separated {
		b.WriteByte('-')
	}
	return b.String()
}
