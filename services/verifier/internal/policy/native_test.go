package policy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
	"go.yaml.in/yaml/v3"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// translate compiles an expression as a rule's own, or as its items.
func translate(tb testing.TB, l *Loader, expression string, want *cel.Type) *program {
	tb.Helper()
	c := newCompiler(l.env, raw{})
	p, err := c.compile(text{Value: expression, Line: 1, Column: 1, style: yaml.LiteralStyle}, want)
	if err != nil {
		tb.Fatalf("%s: %v", expression, err)
	}
	return p
}

// TestNativeCovers tells which expressions are evaluated without CEL.
func TestNativeCovers(t *testing.T) {
	t.Parallel()
	l := newLoader(t)
	for expression, native := range map[string]bool{
		"findings.all(f, !f.kev)": true,
		"findings.all(f, f.severity_rank < CRITICAL || f.fixed_versions.size() == 0)":   true,
		"!findings.exists(x, x.epss >= 0.5 && x.package in ['a', 'b'])":                 true,
		"findings.all(f, size(f.id) < 20 ? f.cvss <= 9.0 : f.purl.startsWith('pkg:'))":  true,
		"findings.all(f, !('CVE-1' in f.aliases)) && findings.all(f, f.location != '')": true,
		"findings.all(f, f.fixed_versions[0] != '1')":                                   true,
		// These are left to CEL.
		"findings.all(f, f.first_seen + days(30) > now)":            false,
		"findings.all(f, f.aliases.all(a, a != 'x'))":               false,
		"findings.all(f, f.id.matches('^C'))":                       false,
		"findings.exists_one(f, f.kev)":                             false,
		"findings.all(f, findings.exists(g, g.id == f.id))":         false,
		"findings.size() == 0":                                      false,
		"suppressed_findings.all(f, !f.kev)":                        false,
		"packages.all(p, p.name != '')":                             false,
		"image.user != ''":                                          false,
		"findings.all(f, f.cvss < 9)":                               false,
		"findings.filter(f, f.kev).all(f, f.id != '')":              false,
		"[1, 2].all(f, f > 0)":                                      false,
		"findings.all(f, f.severity_rank + 1 < CRITICAL)":           false,
		"findings.all(f, [f.kev] == [true])":                        false,
		"findings.all(f, f.severity_rank in [LOW, HIGH])":           false,
		"findings.all(findings, findings.kev)":                      false,
		"findings.all(f, f.kev) && image.user.startsWith('x')":      false,
		"findings.all(f, f.package == image.repository)":            false,
		"findings.all(f, attestations.exists(a, a.key_id == f.id))": false,
		"findings.all(f, f.version.split('.')[0] != '1')":           false,
		"findings.all(f, dyn(f.severity_rank) == 1)":                false,
		"findings.all(f, has(f.id))":                                false,
		"findings.all(f, f == f)":                                   false,
		"findings.all(f, f.epss > 0.0/0.0)":                         false,
	} {
		set, err := l.Parse("p", []byte(head+"    - {name: r, message: m, severity: deny, expression: \""+expression+"\"}\n"))
		if err != nil {
			if native {
				t.Errorf("%s: %v", expression, err)
			}
			continue // CEL itself refuses it
		}
		if got := set[0].Rules[0].Check.(*check).holds.native != nil; got != native {
			t.Errorf("%s: without CEL: %t", expression, got)
		}
	}
	for expression, native := range map[string]bool{
		`findings.filter(f, f.kev).map(f, f.id + " in " + f.package)`:                        true,
		`findings.filter(f, f.fixed_versions.size() > 0).map(g, g.id + g.fixed_versions[0])`: true,
		`findings.map(f, f.id)`:                                          false,
		`findings.filter(f, f.kev).map(f, string(f.cvss))`:               false,
		`findings.filter(f, f.kev).map(f, f.id) + ["x"]`:                 false,
		`findings.filter(f, f.id.matches("x")).map(f, f.id)`:             false,
		`findings.filter(f, f.kev).map(f, f.id).filter(x, x != "")`:      false,
		`findings.filter(f, f.kev).filter(f, f.epss > 0.1).map(f, f.id)`: false,
		`packages.filter(f, f.in_base_image).map(f, f.name)`:             false,
		`findings.filter(f, f.kev).map(f, f.epss > 0.5, f.id)`:           false,
	} {
		if got := translate(t, l, expression, cel.ListType(cel.StringType)).nativeItems != nil; got != native {
			t.Errorf("%s: without CEL: %t", expression, got)
		}
	}
	for _, pack := range []string{"baseline", "strict", "nist-800-190"} {
		data, err := Pack(pack)
		if err != nil {
			t.Fatal(err)
		}
		set, err := l.Parse(pack, data)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range set[0].Rules {
			c := r.Check.(*check)
			if c.holds.sees&seesFindings != 0 && (c.holds.native == nil || c.items == nil || c.items.nativeItems == nil) {
				t.Errorf("rule %s of %s needs CEL for the findings", r.Name, pack)
			}
		}
	}
}

// TestNativeLeavesFaults leaves to CEL what fails, and what is not within the sizes that
// its costs were estimated by.
func TestNativeLeavesFaults(t *testing.T) {
	t.Parallel()
	l := newLoader(t)
	for name, tc := range map[string]struct {
		expression string
		change     func(*core.Facts)
		fault      string
	}{
		"no first":       {`findings.all(f, f.fixed_versions[0] != "x")`, func(f *core.Facts) { f.Findings[0].FixedVersions = nil }, "index out of bounds"},
		"not a number":   {`findings.all(f, f.cvss < 5.0)`, func(f *core.Facts) { f.Findings[0].CVSS = math.NaN() }, ""},
		"behind a false": {`findings.all(f, f.fixed_versions[0] != "x" && false)`, func(f *core.Facts) { f.Findings[0].FixedVersions = nil }, ""},
	} {
		f := facts()
		tc.change(f)
		c := &check{holds: translate(t, l, tc.expression, cel.BoolType), adapter: l.env.CELTypeAdapter()}
		if c.holds.native == nil {
			t.Fatalf("%s is left to CEL", tc.expression)
		}
		holds, _, err := c.Evaluate(t.Context(), f)
		if tc.fault == "" && (err != nil || holds) || tc.fault != "" && (err == nil || !strings.Contains(err.Error(), tc.fault)) {
			t.Errorf("%s: %t, %v", name, holds, err)
		}
	}
}

// FuzzNative compares what translated expressions give with what CEL gives.
func FuzzNative(f *testing.F) {
	l := newLoader(f)
	for seed := range uint64(200) {
		f.Add(seed, seed*seed)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		g := maker{rand.New(rand.NewPCG(a, b))}
		given := facts()
		given.Findings = g.findings()
		condition := g.condition(3)
		for expression, want := range map[string]*cel.Type{
			fmt.Sprintf("findings.%s(f, %s)", g.of("all", "exists"), condition):    cel.BoolType,
			fmt.Sprintf("findings.filter(f, %s).map(f, %s)", condition, g.text(2)): cel.ListType(cel.StringType),
		} {
			p, err := newCompiler(l.env, raw{}).compile(text{Value: expression, Line: 1, Column: 1}, want)
			if err != nil && strings.Contains(err.Error(), "can cost") {
				continue
			}
			if err != nil {
				t.Fatalf("%s: %v", expression, err)
			}
			if p.native == nil && p.nativeItems == nil {
				t.Fatalf("%s is left to CEL", expression)
			}
			vars := variables(given, l.env.CELTypeAdapter())
			if !vars.fits(p.sees) {
				t.Fatal("the facts do not fit")
			}
			out, err := p.run(t.Context(), vars)
			here := place{facts: given}
			switch {
			case p.native != nil:
				got := p.native(&here)
				if here.failed {
					continue
				}
				if err != nil || out.Value() != got {
					t.Errorf("%s: %t, CEL says %v, %v\n%+v", expression, got, out, err, given.Findings)
				}
			default:
				got := p.nativeItems(&here)
				if here.failed {
					continue
				}
				items, listErr := []string(nil), err
				if err == nil {
					items, listErr = texts(out)
				}
				if listErr != nil || !slices.Equal(items, got) {
					t.Errorf("%s: %q, CEL says %q, %v\n%+v", expression, got, items, listErr, given.Findings)
				}
			}
		}
	})
}

// maker makes expressions and facts.
type maker struct{ *rand.Rand }

func (g maker) of(all ...string) string { return all[g.IntN(len(all))] }

func (g maker) findings() []core.Finding {
	lists := [][]string{nil, {}, {"1"}, {"2", "1"}, {"é", ""}}
	out := make([]core.Finding, g.IntN(5))
	for i := range out {
		rank := int64(g.IntN(7))
		out[i] = core.Finding{
			ID: g.of("CVE-1", "CVE-2", ""), Aliases: lists[g.IntN(len(lists))], Severity: core.SeverityName(rank), SeverityRank: rank,
			CVSS: float64(g.IntN(5)) * 2.5, EPSS: float64(g.IntN(3)) / 2, KEV: g.IntN(2) == 0, Package: g.of("1", "é", "long name"), Version: g.of("1", "2"),
			Purl: g.of("pkg:1", ""), FixedVersions: lists[g.IntN(len(lists))], Location: g.of("1", "\xff"), InBaseImage: g.IntN(2) == 0, VexStatus: g.of("", "affected"),
		}
	}
	return out
}

func (g maker) condition(depth int) string {
	if depth == 0 || g.IntN(4) == 0 {
		return g.of("f.kev", "f.in_base_image", "true", "false")
	}
	d := depth - 1
	switch g.IntN(10) {
	case 0:
		return "!" + g.condition(d)
	case 1:
		return "(" + g.condition(d) + g.of(" && ", " || ") + g.condition(d) + ")"
	case 2:
		return "(" + g.condition(d) + " ? " + g.condition(d) + " : " + g.condition(d) + ")"
	case 3:
		return "(" + g.condition(d) + g.of(" == ", " != ") + g.condition(d) + ")"
	case 4:
		return "(" + g.whole() + g.compared() + g.whole() + ")"
	case 5:
		return "(" + g.of("f.cvss", "f.epss") + g.compared() + g.of("f.cvss", "f.epss", "2.5", "0.0", "-1.5") + ")"
	case 6:
		return "(" + g.text(d) + g.compared() + g.text(d) + ")"
	case 7:
		return g.text(d) + g.of(".startsWith(", ".endsWith(", ".contains(") + g.text(d) + ")"
	case 8:
		return "(" + g.text(d) + " in " + g.of("f.aliases", "f.fixed_versions", `["1", "CVE-1"]`, "[]") + ")"
	default:
		return "(" + g.whole() + g.compared() + g.of("HIGH", "LOW", "CRITICAL") + ")"
	}
}

func (g maker) compared() string { return g.of(" == ", " != ", " < ", " <= ", " > ", " >= ") }

func (g maker) whole() string {
	return g.of("f.severity_rank", "1", "-1", "f.aliases.size()", "size(f.fixed_versions)", "f.package.size()", "size(f.location)")
}

func (g maker) text(depth int) string {
	if depth > 0 && g.IntN(3) == 0 {
		return "(" + g.text(depth-1) + " + " + g.text(depth-1) + ")"
	}
	return g.of("f.id", "f.severity", "f.package", "f.version", "f.purl", "f.location", "f.vex_status", `"1"`, `"é"`, `""`, "f.aliases[0]", "f.fixed_versions[1]")
}
