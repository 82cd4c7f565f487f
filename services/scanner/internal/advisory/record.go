package advisory

import (
	"errors"
	"time"

	"github.com/google/osv-scalibr/semantic"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// Record is an advisory, reduced to what matching needs. Its JSON form is what the
// digest in a snapshot's index is of, and was the stored form before there were
// snapshot files.
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
	// Affected is ordered by ecosystem and name.
	Affected []Affected `json:"affected"`

	// statesKEV and statesEPSS tell that the record itself says so, be it no or 0. Only a
	// builder knows.
	statesKEV, statesEPSS bool
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
	// Stream is the module and stream that the package is of, for example
	// `nodejs:16`; `?` if it is of one that the record does not name. Empty for a
	// package that is of none, and outside of rpm.
	Stream string `json:"stream,omitempty"`
}

// Event is one turn in a range. Exactly one member is set.
type Event struct {
	Introduced   string `json:"introduced,omitempty"`
	Fixed        string `json:"fixed,omitempty"`
	LastAffected string `json:"last_affected,omitempty"`
	Limit        string `json:"limit,omitempty"`
}

func (e Event) version() string { return e.Introduced + e.Fixed + e.LastAffected + e.Limit }

func (e Event) kind() int {
	switch {
	case e.Introduced == "0":
		return eventAlways
	case e.Introduced != "":
		return eventIntroduced
	case e.Fixed != "":
		return eventFixed
	case e.LastAffected != "":
		return eventLastAffected
	}
	return eventLimit
}

func newEvent(kind int, version string) Event {
	switch kind {
	case eventAlways:
		return Event{Introduced: "0"}
	case eventIntroduced:
		return Event{Introduced: version}
	case eventFixed:
		return Event{Fixed: version}
	case eventLastAffected:
		return Event{LastAffected: version}
	}
	return Event{Limit: version}
}

// parseVersion parses a version by the rules of an ecosystem.
func parseVersion(ecosystem, version string) (semantic.Version, error) {
	return semantic.Parse(canonical(baseEcosystem(ecosystem), version), ecosystem)
}

// supported tells whether versions of an ecosystem can be compared.
func supported(ecosystem string) bool {
	_, err := parseVersion(ecosystem, "1")
	return !errors.Is(err, semantic.ErrUnsupportedEcosystem)
}
