package advisory

import (
	"regexp"
	"strings"
	"time"

	"github.com/google/osv-scalibr/semantic"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// Record is an advisory, reduced to what matching needs. Its JSON form, one record
// a line, is what a snapshot consists of.
type Record struct {
	ID       string    `json:"id"`
	Modified time.Time `json:"modified"`
	Aliases  []string  `json:"aliases,omitempty"`
	// Upstream are the vulnerabilities that a distribution's advisory is about.
	Upstream []string `json:"upstream,omitempty"`
	Summary  string   `json:"summary,omitempty"`
	// Score and Vector are of the CVSS vector with the highest version.
	Score  float64 `json:"score,omitempty"`
	Vector string  `json:"vector,omitempty"`
	// Severity is what the database says in words, 0 if nothing.
	Severity core.Severity `json:"severity,omitempty"`
	KEV      bool          `json:"kev,omitempty"`
	EPSS     float64       `json:"epss,omitempty"`
	Affected []Affected    `json:"affected"`
}

// Affected says which versions of a package are affected.
type Affected struct {
	Ecosystem string `json:"ecosystem"`
	// Name is normalised by the rules of the ecosystem.
	Name     string        `json:"name"`
	Ranges   [][]Event     `json:"ranges,omitempty"`
	Versions []string      `json:"versions,omitempty"`
	Score    float64       `json:"score,omitempty"`
	Vector   string        `json:"vector,omitempty"`
	Severity core.Severity `json:"severity,omitempty"`
}

// Event is one turn in a range. Exactly one member is set.
type Event struct {
	Introduced   string `json:"introduced,omitempty"`
	Fixed        string `json:"fixed,omitempty"`
	LastAffected string `json:"last_affected,omitempty"`
}

func (e Event) version() string { return e.Introduced + e.Fixed + e.LastAffected }

// parseVersion parses a version by the rules of an ecosystem.
func parseVersion(ecosystem, version string) (semantic.Version, error) {
	return semantic.Parse(version, ecosystem)
}

var pypiSeparators = regexp.MustCompile(`[-_.]+`)

// normalizeName brings a package's name into the one form its ecosystem takes for
// equal.
func normalizeName(ecosystem, name string) string {
	switch ecosystem {
	case "PyPI":
		return strings.ToLower(pypiSeparators.ReplaceAllString(name, "-"))
	case "NuGet", "Packagist":
		return strings.ToLower(name)
	}
	return name
}
