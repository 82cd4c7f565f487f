package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	scanner "github.com/seaworthy-dev/seaworthy/services/scanner/app"
)

// scanTable shows a report to people, the worst first.
func scanTable(res *scanner.ScanOnceResult) ([]byte, error) {
	var b bytes.Buffer
	r := res.Report
	findings := slices.Clone(r.GetFindings())
	slices.SortStableFunc(findings, func(a, b *scannerv1.Finding) int {
		return cmp.Or(cmp.Compare(b.GetSeverity(), a.GetSeverity()), cmp.Compare(b.GetCvssScore(), a.GetCvssScore()), cmp.Compare(a.GetId(), b.GetId()))
	})
	if len(findings) > 0 {
		t := output.NewTable(&b, "SEVERITY", "ID", "PACKAGE", "VERSION", "FIXED IN", "EXPLOITED", "LOCATION")
		for _, f := range findings {
			exploited := ""
			if f.GetKev() {
				exploited = "yes"
			}
			t.Row(output.Enum(f.GetSeverity(), "SEVERITY_"), f.GetId(), f.GetPackageName(), f.GetPackageVersion(),
				output.Cut(strings.Join(f.GetFixedVersions(), ", "), 40), exploited, output.Cut(f.GetLocation(), 60))
		}
		if err := t.Flush(); err != nil {
			return nil, err
		}
		_, _ = fmt.Fprintln(&b)
	}
	image := res.Name
	if r.GetImageDigest() != "" {
		image += "@" + r.GetImageDigest()
	}
	_, _ = fmt.Fprintf(&b, "%s %s\n%d packages, %s\n", output.Clean(image), output.Clean(distroOf(r)), r.GetPackageCount(), countBySeverity(findings))
	for _, p := range r.GetProblems() {
		_, _ = fmt.Fprintf(&b, "incomplete: %s\n", output.Clean(p))
	}
	return b.Bytes(), nil
}

func distroOf(r *scannerv1.Report) string {
	d := strings.TrimSpace(r.GetFacts().GetDistroId() + " " + r.GetFacts().GetDistroVersion())
	p := r.GetPlatform()
	return strings.Trim(strings.TrimSuffix(p.GetOs()+"/"+p.GetArchitecture(), "/")+", "+d, ", ")
}

func countBySeverity(findings []*scannerv1.Finding) string {
	counts := map[typev1.Severity]int{}
	for _, f := range findings {
		counts[f.GetSeverity()]++
	}
	var parts []string
	for _, s := range slices.Backward(slices.Sorted(maps.Keys(counts))) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[s], strings.ToLower(output.Enum(s, "SEVERITY_"))))
	}
	if parts == nil {
		return "no findings"
	}
	return fmt.Sprintf("%d findings: %s", len(findings), strings.Join(parts, ", "))
}
