package policy

import (
	"fmt"
	"testing"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// many are facts with a number of findings and packages that break no rule of the
// baseline.
func many(n int) *core.Facts {
	f := facts()
	f.Findings, f.Packages = nil, nil
	for i := range n {
		f.Findings = append(f.Findings, core.Finding{
			ID: fmt.Sprintf("DEBIAN-CVE-2026-%05d", i), Aliases: []string{fmt.Sprintf("CVE-2026-%05d", i)}, Severity: "MEDIUM",
			SeverityRank: core.SeverityMedium, CVSS: 5.5, EPSS: 0.01, Package: fmt.Sprintf("lib%d", i/3), Version: "1.2.3-4",
			Purl: fmt.Sprintf("pkg:deb/debian/lib%d@1.2.3-4", i/3), FixedVersions: []string{"1.2.3-5"},
		})
		f.Packages = append(f.Packages, core.Package{Name: fmt.Sprintf("lib%d", i), Version: "1.2.3-4", Ecosystem: "Debian:12"})
	}
	return f
}

// BenchmarkBaseline evaluates the rules of the baseline on facts of growing size.
func BenchmarkBaseline(b *testing.B) {
	data, err := Pack("baseline")
	if err != nil {
		b.Fatal(err)
	}
	set, err := newLoader(b).Parse("baseline", data)
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{10, 100, 1000, 10_000} {
		b.Run(fmt.Sprintf("findings=%d", n), func(b *testing.B) {
			f := many(n)
			b.ReportAllocs()
			for b.Loop() {
				for _, r := range set[0].Rules {
					if _, _, err := r.Check.Evaluate(b.Context(), f); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/finding")
		})
	}
}
