package advisory

import (
	"slices"
	"testing"
)

// plainEcosystems has one for every plain form.
var plainEcosystems = []string{"Go", "npm", "crates.io", "Bitnami", "PyPI", "Maven", "RubyGems", "Debian:12", "Alpine:v3.20"}

// checkPlain compares the plain order with the parsed one.
func checkPlain(t *testing.T, ecosystem, a, b string) {
	t.Helper()
	plain := plainOrder(baseEcosystem(ecosystem))
	got, ok := plain(a, b)
	if !ok {
		return
	}
	v, err := parseVersion(ecosystem, a)
	if err != nil {
		t.Fatalf("%s: %q is plain and cannot be parsed: %v", ecosystem, a, err)
	}
	want, err := v.CompareStr(b)
	if err != nil || sign(got) != sign(want) {
		t.Errorf("%s: compare %q with %q = %d, want %d, %v", ecosystem, a, b, got, want, err)
	}
	if back, ok := plain(b, a); !ok || sign(back) != -sign(got) {
		t.Errorf("%s: compare %q with %q = %d, and back %d", ecosystem, a, b, got, back)
	}
}

func sign(c int) int { return max(-1, min(1, c)) }

func TestPlainOrder(t *testing.T) {
	versions := []string{
		"0", "1", "1.0", "1.0.0", "1.2", "1.10", "01.2", "1.02", "1.2.3.4", "1.2.3.0", "v1.2.3", "1.2.3-rc.1", "1.2.3-rc.10", "1.2.3-rc.9", "1.2.3-1", "1.2.3-a",
		"1.2.3-a.b", "1.2.3-0.20200101000000-abcdef", "1.2.3+incompatible", "1.2.3-rc.1+meta", "1.2.3-", "1..2", ".1", "1.", "", "1.0-r0", "1.0-r10", "1.0-r9", "1.05-r1",
		"1:1.0-1", "2:0.1", "1.0-1~deb12u1", "1.0-1+deb12u2", "1.0~rc1-1", "1.0a-1", "1.0+b", "1.0-1-2", "3.0.11-1~deb12u2", "1.0.0-", "a", "~", "1~~", "1~~a", "1:", "-1",
		"99999999999999999999999999", "99999999999999999999999998", "1.0.a", "1_p1-r1", "1 2", "é",
	}
	for _, ecosystem := range plainEcosystems {
		for _, a := range versions {
			for _, b := range versions {
				checkPlain(t, ecosystem, a, b)
			}
		}
	}
}

// FuzzPlainOrder: what is compared in place compares as osv-scalibr does.
func FuzzPlainOrder(f *testing.F) {
	for i, v := range []string{"1.2.3", "1.2.3-rc.1", "1:1.0-1~deb12u1", "1.0-r1", "0.0.0-20210921155107-089bfa567519", "1.0+b-2"} {
		f.Add(uint8(i), v, "1.2.0")
		f.Add(uint8(i), v, v)
	}
	f.Fuzz(func(t *testing.T, ecosystem uint8, a, b string) {
		checkPlain(t, plainEcosystems[int(ecosystem)%len(plainEcosystems)], a, b)
	})
}

// TestOrderIsTotal: known orders of each ecosystem, from the documents that define
// them.
func TestOrderIsTotal(t *testing.T) {
	for ecosystem, versions := range map[string][]string{
		"Maven":        {"1-alpha2snapshot", "1-alpha2", "1-alpha-123", "1-beta-2", "1-beta123", "1-m2", "1-m11", "1-rc", "1-cr2", "1-rc123", "1-SNAPSHOT", "1", "1-sp", "1-sp2", "1-sp123", "1-abc", "1-def", "1-pom-1", "1-1-snapshot", "1-1", "1-2", "1-123"},
		"PyPI":         {"1.dev0", "1.0.dev456", "1.0a1", "1.0a2.dev456", "1.0a12.dev456", "1.0a12", "1.0b1.dev456", "1.0b2", "1.0b2.post345.dev456", "1.0b2.post345", "1.0rc1.dev456", "1.0rc1", "1.0", "1.0+abc.5", "1.0+abc.7", "1.0+5", "1.0.post456.dev34", "1.0.post456", "1.0.15", "1.1.dev1"},
		"AlmaLinux:8":  {"1.0~rc1", "1.0~rc1^git1", "1.0", "1.0^git1", "1.0^git2", "1.0a", "1.0.1", "1.1", "1.10", "1:0.1-1", "1:0.1-2.el8", "1:0.1-10.el8"},
		"Debian:12":    {"0:1.0~~", "1.0~~a", "1.0~", "1.0", "1.0-1~bpo1", "1.0-1", "1.0-1+b1", "1.0-2", "1.0a", "1.0+", "1.0.1", "1:0.1"},
		"npm":          {"1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0"},
		"Alpine:v3.20": {"1.0_alpha1-r0", "1.0_beta-r0", "1.0_rc1-r0", "1.0-r0", "1.0-r2", "1.0-r10", "1.0_p1-r0", "1.0a-r0", "1.1-r0", "1.10-r0"},
	} {
		for i, a := range versions {
			for j, b := range versions {
				o, err := newOrder(ecosystem, a)
				if err != nil {
					t.Fatal(err)
				}
				c, err := o.compare(b)
				if err != nil || sign(c) != sign(i-j) {
					t.Errorf("%s: compare %s with %s = %d, %v", ecosystem, a, b, c, err)
				}
			}
		}
		if !slices.IsSortedFunc(versions, func(a, b string) int { o, _ := newOrder(ecosystem, a); c, _ := o.compare(b); return c }) {
			t.Errorf("%s: not in order", ecosystem)
		}
	}
}
