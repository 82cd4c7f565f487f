package advisory

import (
	"strings"

	gocvss20 "github.com/pandatix/go-cvss/20"
	gocvss30 "github.com/pandatix/go-cvss/30"
	gocvss31 "github.com/pandatix/go-cvss/31"
	gocvss40 "github.com/pandatix/go-cvss/40"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// score returns the highest base score among the vectors. A version 2 vector
// counts only if there is no newer one: its scores are on another scale.
// A vector that cannot be read is passed over.
func score(vectors []osvSeverity) (float64, string) {
	var best, best2 float64
	var vector, vector2 string
	for _, v := range vectors {
		s, two, ok := baseScore(v.Score)
		switch {
		case !ok:
		case two && (vector2 == "" || s > best2):
			best2, vector2 = s, v.Score
		case !two && (vector == "" || s > best || s == best && v.Score > vector):
			best, vector = s, v.Score
		}
	}
	if vector == "" {
		return best2, vector2
	}
	return best, vector
}

func baseScore(vector string) (score float64, version2, ok bool) {
	if len(vector) > 1000 {
		return 0, false, false
	}
	switch {
	case strings.HasPrefix(vector, "CVSS:4.0/"):
		if c, err := gocvss40.ParseVector(vector); err == nil {
			return c.Score(), false, true
		}
	case strings.HasPrefix(vector, "CVSS:3.1/"):
		if c, err := gocvss31.ParseVector(vector); err == nil {
			return c.BaseScore(), false, true
		}
	case strings.HasPrefix(vector, "CVSS:3.0/"):
		if c, err := gocvss30.ParseVector(vector); err == nil {
			return c.BaseScore(), false, true
		}
	default:
		if c, err := gocvss20.ParseVector(vector); err == nil {
			return c.BaseScore(), true, true
		}
	}
	return 0, false, false
}

// statedSeverity reads what Ubuntu writes in the place of a vector.
func statedSeverity(vectors []osvSeverity) core.Severity {
	for _, v := range vectors {
		if v.Type == "Ubuntu" {
			return severityWord(v.Score)
		}
	}
	return 0
}

// summarySeverity reads the severity that the security advisories of rpm
// distributions begin with: `Important: openssl security update`.
func summarySeverity(id, summary string) core.Severity {
	word, _, ok := strings.Cut(summary, ":")
	if !ok || len(id) < 4 || id[1:4] != "LSA" && id[1:4] != "HSA" {
		return 0
	}
	return severityWord(word)
}

// severityOfScore is the qualitative scale of CVSS 3 and 4.
func severityOfScore(score float64) core.Severity {
	switch {
	case score >= 9:
		return core.SeverityCritical
	case score >= 7:
		return core.SeverityHigh
	case score >= 4:
		return core.SeverityMedium
	case score > 0:
		return core.SeverityLow
	}
	return core.SeverityNegligible
}

// severityWord reads the words of GitHub, Debian and Ubuntu; 0 for anything else.
func severityWord(word string) core.Severity {
	switch strings.ToLower(strings.TrimRight(word, "*")) {
	case "critical":
		return core.SeverityCritical
	case "high", "important":
		return core.SeverityHigh
	case "moderate", "medium":
		return core.SeverityMedium
	case "low":
		return core.SeverityLow
	case "negligible", "unimportant", "none":
		return core.SeverityNegligible
	}
	return 0
}
