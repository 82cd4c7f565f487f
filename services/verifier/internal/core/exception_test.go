package core_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// noCritical is a rule over findings, as policies have them.
type noCritical struct{}

func (noCritical) Evaluate(_ context.Context, f *core.Facts) (bool, []string, error) {
	var items []string
	for _, x := range f.Findings {
		if x.SeverityRank >= core.SeverityCritical {
			items = append(items, x.ID)
		}
	}
	return len(items) == 0, items, nil
}

func exception(name, target string, days int) core.Exception {
	e := core.Exception{
		Name: name, Digest: "sha256:" + name, Target: target, Owner: "owner of " + name, Reason: "because",
		ExpireTime: now.Add(time.Duration(days) * 24 * time.Hour), Matches: func(imageref.Ref, string) bool { return true },
	}
	if rule, ok := strings.CutPrefix(target, "rule:"); ok {
		e.Rule = rule
		if p, r, both := strings.Cut(rule, "/"); both {
			e.Policy, e.Rule = p, r
		}
	} else {
		e.Vulnerability = target
	}
	return e
}

func TestExceptions(t *testing.T) {
	t.Parallel()
	critical := func(id, purl string, aliases ...string) core.Finding {
		return core.Finding{ID: id, Aliases: aliases, Purl: purl, SeverityRank: core.SeverityCritical}
	}
	one := critical("CVE-1", "pkg:golang/x/text@0.3.7", "GHSA-1")
	two := critical("CVE-2", "pkg:deb/debian/zlib@1.2?arch=amd64")
	low := core.Finding{ID: "CVE-3", SeverityRank: core.SeverityLow}
	of := func(e core.Exception, purl string) core.Exception { e.Purl = purl; return e }
	elsewhere := exception("a", "CVE-1", 1)
	elsewhere.Matches = func(imageref.Ref, string) bool { return false }
	tests := map[string]struct {
		findings   []core.Finding
		exceptions []core.Exception
		warn       bool
		state      core.State
		used       []string
		days       int
	}{
		"none":                   {[]core.Finding{one}, nil, false, core.StateFail, nil, 0},
		"by id":                  {[]core.Finding{one}, []core.Exception{exception("a", "CVE-1", 3)}, false, core.StatePass, []string{"a"}, 3},
		"by alias":               {[]core.Finding{one}, []core.Exception{exception("a", "GHSA-1", 3)}, false, core.StatePass, []string{"a"}, 3},
		"by id in another case":  {[]core.Finding{one}, []core.Exception{exception("a", "cve-1", 3)}, false, core.StatePass, []string{"a"}, 3},
		"architecture":           {[]core.Finding{two}, []core.Exception{of(exception("a", "CVE-2", 3), "pkg:deb/debian/zlib?arch=amd64")}, false, core.StatePass, []string{"a"}, 3},
		"another architecture":   {[]core.Finding{two}, []core.Exception{of(exception("a", "CVE-2", 3), "pkg:deb/debian/zlib?arch=arm64")}, false, core.StateFail, nil, 0},
		"a distribution":         {[]core.Finding{two}, []core.Exception{of(exception("a", "CVE-2", 3), "pkg:deb/debian/zlib@1.2?distro=debian-12")}, false, core.StateFail, nil, 0},
		"a literal plus":         {[]core.Finding{critical("CVE-1", "pkg:deb/debian/g%2B%2B@1%2Bb1")}, []core.Exception{of(exception("a", "CVE-1", 3), "pkg:deb/debian/g++@1+b1")}, false, core.StatePass, []string{"a"}, 3},
		"another id":             {[]core.Finding{one}, []core.Exception{exception("a", "CVE-11", 3)}, false, core.StateFail, nil, 0},
		"ended":                  {[]core.Finding{one}, []core.Exception{exception("a", "CVE-1", 0)}, false, core.StateFail, nil, 0},
		"another image":          {[]core.Finding{one}, []core.Exception{elsewhere}, false, core.StateFail, nil, 0},
		"one of two":             {[]core.Finding{one, two}, []core.Exception{exception("a", "CVE-1", 3)}, false, core.StateFail, nil, 0},
		"both":                   {[]core.Finding{one, two}, []core.Exception{exception("b", "CVE-1", 3), exception("a", "CVE-2", 2)}, false, core.StatePass, []string{"a", "b"}, 2},
		"the one that lasts":     {[]core.Finding{one}, []core.Exception{exception("a", "CVE-1", 1), exception("b", "GHSA-1", 9)}, false, core.StatePass, []string{"b"}, 9},
		"not what is not needed": {[]core.Finding{one, low}, []core.Exception{exception("a", "CVE-1", 3), exception("b", "CVE-3", 1)}, false, core.StatePass, []string{"a"}, 3},
		"of the package":         {[]core.Finding{two}, []core.Exception{of(exception("a", "CVE-2", 3), "pkg:deb/debian/zlib")}, false, core.StatePass, []string{"a"}, 3},
		"of the version":         {[]core.Finding{two}, []core.Exception{of(exception("a", "CVE-2", 3), "pkg:deb/debian/zlib@1.2")}, false, core.StatePass, []string{"a"}, 3},
		"of another version":     {[]core.Finding{two}, []core.Exception{of(exception("a", "CVE-2", 3), "pkg:deb/debian/zlib@1.3")}, false, core.StateFail, nil, 0},
		"of a longer name":       {[]core.Finding{two}, []core.Exception{of(exception("a", "CVE-2", 3), "pkg:deb/debian/zli")}, false, core.StateFail, nil, 0},
		"from the rule":          {[]core.Finding{one, two}, []core.Exception{exception("a", "rule:no-critical", 3)}, false, core.StatePass, []string{"a"}, 3},
		"of the policy":          {[]core.Finding{one}, []core.Exception{exception("a", "rule:p/no-critical", 3)}, false, core.StatePass, []string{"a"}, 3},
		"of another policy":      {[]core.Finding{one}, []core.Exception{exception("a", "rule:q/no-critical", 3)}, false, core.StateFail, nil, 0},
		"from a warning":         {[]core.Finding{one}, []core.Exception{exception("a", "CVE-1", 3)}, true, core.StatePass, []string{"a"}, 3},
		"nothing is broken":      {[]core.Finding{low}, []core.Exception{exception("a", "CVE-3", 3), exception("b", "rule:no-critical", 3)}, false, core.StatePass, nil, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := evidence()
			e.Report.Findings = tc.findings
			p := policy("p", core.Rule{Name: "no-critical", Message: "a critical vulnerability", Warn: tc.warn, Check: noCritical{}})
			v, err := core.Judge(t.Context(), core.Input{
				Image: image, Platforms: []core.PlatformEvidence{e}, Policies: []core.Policy{p}, Exceptions: tc.exceptions, Now: now,
			})
			if err != nil || v.State != tc.state {
				t.Fatalf("%s, %v", v.State, err)
			}
			var used []string
			for _, u := range v.Exceptions {
				used = append(used, u.Name)
			}
			res := v.Platforms[0].Policies[0].Rules[0]
			if d := cmp.Diff(tc.used, used, cmpopts.EquateEmpty()) + cmp.Diff(tc.used, res.Exceptions, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("used (-want +got):\n%s", d)
			}
			if tc.used == nil {
				if !v.ExpireTime.IsZero() {
					t.Errorf("ends %v", v.ExpireTime)
				}
				return
			}
			if want := now.Add(time.Duration(tc.days) * 24 * time.Hour); !v.ExpireTime.Equal(want) {
				t.Errorf("ends %v, want %v", v.ExpireTime, want)
			}
			if res.Outcome != core.OutcomeExcepted || res.ItemCount == 0 || v.Reasons[0].Code != core.CodeRuleExcepted ||
				!strings.Contains(v.Reasons[0].Message, "excepted by "+tc.used[0]+" (owner of "+tc.used[0]+") until 2026-03-") ||
				!strings.HasPrefix(v.Reasons[0].Message, map[bool]string{false: "would be FAIL", true: "would be a warning"}[tc.warn]) {
				t.Errorf("%+v\n%+v", res, v.Reasons)
			}
			if n := len(v.Platforms[0].Inputs.ExceptionDigests); n != len(tc.exceptions) || !slices.IsSorted(v.Platforms[0].Inputs.ExceptionDigests) {
				t.Errorf("%d exceptions recorded, %d in force", n, len(tc.exceptions))
			}
		})
	}
}

// TestExceptionUse names the packages that an exception was used for, over all
// platforms, and what its owner wrote.
func TestExceptionUse(t *testing.T) {
	t.Parallel()
	finding := func(id, purl string) core.Finding {
		return core.Finding{ID: id, Purl: purl, SeverityRank: core.SeverityCritical}
	}
	amd, arm := evidence(), evidence()
	arm.Digest = "sha256:arm"
	amd.Report.Findings = []core.Finding{finding("CVE-1", "pkg:deb/debian/zlib@1.2?arch=amd64"), finding("CVE-1", "pkg:deb/debian/zlib@1.2?arch=amd64")}
	arm.Report.Findings = []core.Finding{finding("CVE-1", "pkg:deb/debian/zlib@1.2?arch=arm64"), finding("CVE-2", "")}
	cve := exception("cve", "CVE-1", 1)
	cve.Justification, cve.Ticket = "inline_mitigations_already_exist", "https://t.example/1"
	rule := exception("rule", "rule:other", 1)
	many := evidence()
	many.Digest = "sha256:many"
	for i := range core.MaxExceptionPurls + 1 {
		many.Report.Findings = append(many.Report.Findings, finding("CVE-3", fmt.Sprintf("pkg:generic/p%05d@1", i)))
	}
	v, err := core.Judge(t.Context(), core.Input{
		Image: image, Platforms: []core.PlatformEvidence{amd, arm, many}, Now: now,
		Policies: []core.Policy{
			policy("p", core.Rule{Name: "no-critical", Check: noCritical{}}, core.Rule{Name: "again", Check: noCritical{}}),
			policy("q", core.Rule{Name: "other", Check: noCritical{}}),
		},
		Exceptions: []core.Exception{cve, exception("two", "CVE-2", 1), exception("three", "CVE-3", 1), rule},
	})
	if err != nil || v.State != core.StatePass {
		t.Fatalf("%+v, %v", v, err)
	}
	var got []string
	for _, u := range v.Exceptions {
		got = append(got, fmt.Sprintf("%s %d %s %s", u.Name, len(u.Purls), u.Justification, u.Ticket))
	}
	want := []string{"cve 2 inline_mitigations_already_exist https://t.example/1", "rule 0  ", fmt.Sprintf("three %d  ", core.MaxExceptionPurls), "two 0  "}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"pkg:deb/debian/zlib@1.2?arch=amd64", "pkg:deb/debian/zlib@1.2?arch=arm64"}, v.Exceptions[0].Purls); d != "" {
		t.Errorf("purls (-want +got):\n%s", d)
	}
}
