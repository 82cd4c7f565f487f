package policy

import (
	"strings"
	"testing"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// TestUnknowable: a rule that holds because no finding is known to be exploited is an error
// where nobody knows of any, so the verdict is UNKNOWN. A finding that is known counts, and
// a rule that asks for the absence itself decides for itself.
func TestUnknowable(t *testing.T) {
	t.Parallel()
	exploited := func(f *core.Facts) { f.Findings[0].KEV = true }
	for name, c := range map[string]struct {
		expression string
		change     func(*core.Facts)
		holds      bool
		err        string
	}{
		"kev":                {"findings.all(f, !f.kev)", nil, true, "the rule reads kev"},
		"kev within":         {"findings.filter(f, f.severity_rank >= HIGH || f.kev).size() == 0", func(f *core.Facts) { f.Findings[0].SeverityRank = core.SeverityLow }, true, "the rule reads kev"},
		"epss":               {"findings.all(f, f.epss < 0.5)", nil, true, "the rule reads epss"},
		"exploited":          {"findings.all(f, !f.kev)", exploited, false, ""},
		"nothing found":      {"findings.all(f, !f.kev)", func(f *core.Facts) { f.Findings = nil }, true, ""},
		"neither read":       {"findings.all(f, f.severity_rank <= CRITICAL)", nil, true, ""},
		"absence is decided": {"!advisories.exploited_known || findings.all(f, !f.kev)", nil, true, ""},
		"absence refuses":    {"advisories.exploited_known && findings.all(f, !f.kev)", nil, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, err := newLoader(t).Parse("p.yaml", []byte(head+"    - name: r\n      message: m\n      severity: deny\n      expression: '"+c.expression+"'\n"))
			if err != nil {
				t.Fatal(err)
			}
			f := facts()
			f.Findings = f.Findings[:1]
			f.Findings[0].KEV, f.Findings[0].EPSS = false, 0
			if c.change != nil {
				c.change(f)
			}
			if _, _, err := set[0].Rules[0].Check.Evaluate(t.Context(), f); err != nil {
				t.Errorf("all is known: %v", err)
			}
			f.Advisories.ExploitedKnown, f.Advisories.ScoresKnown = false, false
			holds, _, err := set[0].Rules[0].Check.Evaluate(t.Context(), f)
			if holds != c.holds || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("holds %v, %v", holds, err)
			}
		})
	}
}
