package cli

import (
	"fmt"
	"strings"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
)

// condition is one that a finding may meet.
type condition struct {
	fixable bool
	kev     bool
	// severity is the lowest that counts, when kev does not.
	severity typev1.Severity
}

// gate is what --fail-on names; nil lets everything through.
type gate []condition

func parseGate(s string) (gate, error) {
	if s == "" {
		return nil, nil
	}
	var out gate
	for part := range strings.SplitSeq(s, ",") {
		word, fixable := strings.CutPrefix(strings.ToLower(strings.TrimSpace(part)), "fixable:")
		c := condition{fixable: fixable, kev: word == "kev"}
		if !c.kev {
			n, ok := typev1.Severity_value["SEVERITY_"+strings.ToUpper(word)]
			if !ok || n == 0 {
				return nil, fmt.Errorf("--fail-on %q is neither kev nor one of unknown, negligible, low, medium, high, critical, with or without the prefix `fixable:`", part)
			}
			c.severity = typev1.Severity(n)
		}
		out = append(out, c)
	}
	return out, nil
}

func (c condition) met(f *scannerv1.Finding) bool {
	if c.fixable && len(f.GetFixedVersions()) == 0 {
		return false
	}
	if c.kev {
		return f.GetKev()
	}
	return f.GetSeverity() >= c.severity
}

// judge tells whether a finding meets a condition, and else whether the report can
// be trusted to have them all.
func (g gate) judge(r *scannerv1.Report) error {
	if g == nil {
		return nil
	}
	met := 0
	for _, f := range r.GetFindings() {
		for _, c := range g {
			if c.met(f) {
				met++
				break
			}
		}
	}
	switch {
	case met > 0:
		return fmt.Errorf("%w: %d findings", errFailOn, met)
	case r.GetIncomplete():
		return fmt.Errorf("%w: %s", errIncomplete, strings.Join(r.GetProblems(), "; "))
	}
	return nil
}
