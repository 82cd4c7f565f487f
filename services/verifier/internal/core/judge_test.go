package core_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

var (
	now    = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	digest = "sha256:" + strings.Repeat("a", 64)
	image  = imageref.Ref{Registry: "r.example", Repository: "team/app", Tag: "v1", Digest: digest}
)

// check is a rule whose result is given.
type check struct {
	holds bool
	items []string
	err   error
}

func (c check) Evaluate(context.Context, *core.Facts) (bool, []string, error) {
	return c.holds, c.items, c.err
}

func rule(name string, c check, warn bool) core.Rule {
	return core.Rule{Name: name, Message: "message of " + name, Control: "control", Warn: warn, Check: c}
}

func policy(name string, rules ...core.Rule) core.Policy {
	return core.Policy{
		Name: name, Digest: "sha256:policy-" + name, Rules: rules,
		Matches: func(repository string) bool { return repository == "r.example/team/app" },
	}
}

func attestation(predicateType string, age time.Duration) core.Attestation {
	return core.Attestation{PredicateType: predicateType, ManifestDigest: "sha256:" + predicateType, KeyID: "key", SignTime: now.Add(-age)}
}

// evidence is sound evidence of one platform.
func evidence() core.PlatformEvidence {
	source := attestation(core.PredicateReport, time.Hour)
	return core.PlatformEvidence{
		Digest: digest, Platform: core.Platform{OS: "linux", Architecture: "amd64"},
		Report:       &core.Report{Source: source, AdvisoryDigest: "sha256:advisories", AdvisoryTime: now.Add(-24 * time.Hour)},
		Attestations: []core.Attestation{source},
	}
}

var (
	holds  = rule("holds", check{holds: true}, false)
	denies = rule("denies", check{items: []string{"one", "two"}}, false)
	warns  = rule("warns", check{}, true)
	breaks = rule("breaks", check{err: errors.New("division by zero")}, true)
)

// seer keeps what a rule sees.
type seer struct{ image *core.Image }

func (s *seer) Evaluate(_ context.Context, f *core.Facts) (bool, []string, error) {
	s.image = f.Image
	return true, nil, nil
}

// TestTagDecidesNothing judges one digest under several tags: the verdict names the tag,
// and neither rules nor exceptions nor VEX statements see it.
func TestTagDecidesNothing(t *testing.T) {
	t.Parallel()
	var first *core.Verdict
	for _, tag := range []string{"v1", "latest", ""} {
		tagged := image
		tagged.Tag = tag
		e := evidence()
		e.Report.Findings = []core.Finding{{ID: "CVE-1", Purl: zlib, SeverityRank: core.SeverityCritical}}
		e.VEX = []core.VexDocument{{Digest: "sha256:d", Author: "vendor", Attached: true, Statements: []core.VexStatement{statement("pkg:docker/team/app@v1")}}}
		excepted := exception("a", "CVE-1", 1)
		excepted.Matches = func(i imageref.Ref, _ string) bool { return i.Tag != "" }
		var sees seer
		v, err := core.Judge(t.Context(), core.Input{
			Image: tagged, Platforms: []core.PlatformEvidence{e}, Now: now, Exceptions: []core.Exception{excepted},
			Policies: []core.Policy{policy("p", core.Rule{Name: "sees", Check: &sees}, core.Rule{Name: "no-critical", Check: noCritical{}})},
		})
		if err != nil {
			t.Fatal(err)
		}
		if v.State != core.StateFail || v.Image != tagged || sees.image.Repository != image.Repository {
			t.Errorf("%s: %s of %s, rules saw %+v", tag, v.State, v.Image, sees.image)
		}
		v.Image.Tag = ""
		if first == nil {
			first = &v
		} else if d := cmp.Diff(*first, v); d != "" {
			t.Errorf("%s (-first +this):\n%s", tag, d)
		}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	require := func(predicateType string, maxAge time.Duration) core.Policy {
		p := policy("p", holds)
		p.Require = []core.Requirement{{PredicateType: predicateType, MaxAge: maxAge}}
		return p
	}
	advisories := func(maxAge time.Duration) core.Policy {
		p := policy("p", holds)
		p.AdvisoryMaxAge = maxAge
		return p
	}
	tests := map[string]struct {
		policies []core.Policy
		change   func(*core.PlatformEvidence)
		state    core.State
		codes    []core.Code
		message  string
		expires  time.Duration
	}{
		"pass":             {policies: []core.Policy{policy("p", holds)}, state: core.StatePass},
		"warning":          {policies: []core.Policy{policy("p", warns)}, state: core.StatePass, codes: []core.Code{core.CodeRuleWarned}, message: "message of warns"},
		"deny":             {policies: []core.Policy{policy("p", denies)}, state: core.StateFail, codes: []core.Code{core.CodeRuleDenied}, message: "message of denies: one, two"},
		"rule error":       {policies: []core.Policy{policy("p", breaks)}, state: core.StateUnknown, codes: []core.Code{core.CodeRuleError}, message: "division by zero"},
		"error and deny":   {policies: []core.Policy{policy("p", warns, breaks, denies)}, state: core.StateFail, codes: []core.Code{core.CodeRuleDenied, core.CodeRuleError, core.CodeRuleWarned}},
		"the worst of two": {policies: []core.Policy{policy("b", denies), policy("a", holds)}, state: core.StateFail, codes: []core.Code{core.CodeRuleDenied}},
		"no policy":        {state: core.StateUnknown, codes: []core.Code{core.CodeNoPolicy}, message: "no policy matches r.example/team/app"},
		"no policy matches": {
			policies: []core.Policy{{Name: "p", Matches: func(string) bool { return false }, Rules: []core.Rule{holds}}},
			state:    core.StateUnknown, codes: []core.Code{core.CodeNoPolicy},
		},
		"no report": {
			policies: []core.Policy{policy("p", holds)}, change: func(e *core.PlatformEvidence) { e.Report = nil },
			state: core.StateUnknown, codes: []core.Code{core.CodeEvidenceMissing}, message: "no attestation of type " + core.PredicateReport,
		},
		"invalid report": {
			policies: []core.Policy{policy("p", holds)},
			change: func(e *core.PlatformEvidence) {
				e.Report = nil
				e.Rejected = []core.Rejected{{PredicateType: core.PredicateReport, Why: "bad signature"}}
			},
			state: core.StateUnknown, codes: []core.Code{core.CodeEvidenceInvalid}, message: "bad signature",
		},
		"invalid report beside a valid one": {
			policies: []core.Policy{policy("p", holds)},
			change: func(e *core.PlatformEvidence) {
				e.Rejected = []core.Rejected{{PredicateType: core.PredicateReport, Why: "bad signature"}}
			},
			state: core.StatePass,
		},
		"replayed report": {
			policies: []core.Policy{policy("p", holds)}, change: func(e *core.PlatformEvidence) { e.NotBefore = now },
			state: core.StateUnknown, codes: []core.Code{core.CodeEvidenceInvalid}, message: "was judged before and is gone",
		},
		"incomplete scan": {
			policies: []core.Policy{policy("p", holds)},
			change:   func(e *core.PlatformEvidence) { e.Report.Incomplete, e.Report.Problems = true, []string{"layer 2"} },
			state:    core.StateUnknown, codes: []core.Code{core.CodeScanIncomplete}, message: "layer 2",
		},
		"incomplete scan, denied all the same": {
			policies: []core.Policy{policy("p", denies)},
			change:   func(e *core.PlatformEvidence) { e.Report.Incomplete = true },
			state:    core.StateFail, codes: []core.Code{core.CodeRuleDenied, core.CodeScanIncomplete},
		},
		"required":           {policies: []core.Policy{require(core.PredicateReport, 2*time.Hour)}, state: core.StatePass, expires: time.Hour},
		"required and stale": {policies: []core.Policy{require(core.PredicateReport, time.Hour)}, state: core.StateUnknown, codes: []core.Code{core.CodeEvidenceStale}},
		"required, no time": {
			policies: []core.Policy{require("sbom", time.Hour)},
			change: func(e *core.PlatformEvidence) {
				e.Attestations = append(e.Attestations, core.Attestation{PredicateType: "sbom"})
			},
			state: core.StateUnknown, codes: []core.Code{core.CodeEvidenceStale},
		},
		"required and missing": {policies: []core.Policy{require("sbom", 0)}, state: core.StateUnknown, codes: []core.Code{core.CodeEvidenceMissing}, message: "no attestation of type sbom"},
		"required and invalid": {
			policies: []core.Policy{require("sbom", 0)},
			change:   func(e *core.PlatformEvidence) { e.Rejected = []core.Rejected{{PredicateType: "sbom", Why: "x"}} },
			state:    core.StateUnknown, codes: []core.Code{core.CodeEvidenceInvalid},
		},
		"fresh advisories": {policies: []core.Policy{advisories(25 * time.Hour)}, state: core.StatePass, expires: time.Hour},
		"stale advisories": {policies: []core.Policy{advisories(24 * time.Hour)}, state: core.StateUnknown, codes: []core.Code{core.CodeAdvisoriesStale}},
		"advisories without a time": {
			policies: []core.Policy{advisories(24 * time.Hour)},
			change:   func(e *core.PlatformEvidence) { e.Report.AdvisoryTime = time.Time{} },
			state:    core.StateUnknown, codes: []core.Code{core.CodeAdvisoriesStale},
		},
		"first end counts": {policies: []core.Policy{advisories(30 * time.Hour), require(core.PredicateReport, 2*time.Hour)}, state: core.StatePass, expires: time.Hour},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := evidence()
			if tc.change != nil {
				tc.change(&e)
			}
			v, err := core.Judge(t.Context(), core.Input{Image: image, Platforms: []core.PlatformEvidence{e}, Policies: tc.policies, Now: now})
			if err != nil {
				t.Fatal(err)
			}
			var codes []core.Code
			for _, r := range v.Reasons {
				codes = append(codes, r.Code)
				if r.PlatformDigest != digest {
					t.Errorf("reason %+v names no platform", r)
				}
			}
			if v.State != tc.state || v.Platforms[0].State != tc.state {
				t.Errorf("%s on the platform %s, want %s", v.State, v.Platforms[0].State, tc.state)
			}
			if diff := cmp.Diff(tc.codes, codes); diff != "" {
				t.Errorf("reasons (-want +got):\n%s", diff)
			}
			if len(v.Reasons) > 0 && !strings.Contains(v.Reasons[0].Message, tc.message) {
				t.Errorf("message %q lacks %q", v.Reasons[0].Message, tc.message)
			}
			want := time.Time{}
			if tc.expires > 0 {
				want = now.Add(tc.expires)
			}
			if !v.ExpireTime.Equal(want) {
				t.Errorf("expires %s, want %s", v.ExpireTime, want)
			}
		})
	}
}

func TestAggregate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ a, b, want core.State }{
		{core.StatePass, core.StatePass, core.StatePass},
		{core.StatePass, core.StateUnknown, core.StateUnknown},
		{core.StateUnknown, core.StateFail, core.StateFail},
		{core.StateFail, core.StatePass, core.StateFail},
	} {
		if got := core.Worse(tc.a, tc.b); got != tc.want {
			t.Errorf("%s and %s: %s", tc.a, tc.b, got)
		}
	}
	missing := evidence()
	missing.Digest, missing.Report = "sha256:"+strings.Repeat("b", 64), nil
	v, err := core.Judge(t.Context(), core.Input{
		Image: image, Now: now, Policies: []core.Policy{policy("p", holds)},
		Platforms: []core.PlatformEvidence{evidence(), missing},
	})
	if err != nil || v.State != core.StateUnknown || v.Platforms[0].State != core.StatePass || v.Platforms[1].State != core.StateUnknown {
		t.Errorf("an index with one platform without evidence: %+v, %v", v, err)
	}
	v, err = core.Judge(t.Context(), core.Input{Image: image, Now: now, Policies: []core.Policy{policy("p", holds)}})
	if err != nil || v.State != core.StateUnknown || v.Reasons[0].Code != core.CodeEvidenceMissing {
		t.Errorf("an index without platforms: %+v, %v", v, err)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	var items []string
	for i := range 3 * core.MaxItems {
		items = append(items, fmt.Sprintf("item %d %s", i, strings.Repeat("ä", core.MaxText)))
	}
	var rules []core.Rule
	for i := range 2 * core.MaxReasons {
		rules = append(rules, rule(fmt.Sprintf("r%d", i), check{items: items}, false))
	}
	v, err := core.Judge(t.Context(), core.Input{
		Image: image, Platforms: []core.PlatformEvidence{evidence()}, Policies: []core.Policy{policy("p", rules...)}, Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	r := v.Platforms[0].Policies[0].Rules[0]
	if len(v.Reasons) != core.MaxReasons || len(r.Items) != core.MaxItems || r.ItemCount != len(items) {
		t.Errorf("%d reasons, %d items of %d", len(v.Reasons), len(r.Items), r.ItemCount)
	}
	for _, text := range append(r.Items, v.Reasons[0].Message) {
		if len(text) > core.MaxText || !utf8.ValidString(text) {
			t.Errorf("text of %d bytes, valid: %t", len(text), utf8.ValidString(text))
		}
	}
}

func TestEndedContextIsNoVerdict(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	v, err := core.Judge(ctx, core.Input{Image: image, Platforms: []core.PlatformEvidence{evidence()}, Policies: []core.Policy{policy("p", holds)}, Now: now})
	if !errors.Is(err, context.Canceled) || v.State != core.StateUnspecified {
		t.Errorf("%+v, %v", v, err)
	}
}

// PostgreSQL refuses NUL, and problems quote what registries say.
func TestTruncate(t *testing.T) {
	for in, want := range map[string]string{
		"a\x00b\xff": "a\uFFFDb\uFFFD", "": "",
		strings.Repeat("é", core.MaxText): strings.Repeat("é", (core.MaxText-3)/2) + "…",
	} {
		if got := core.Truncate(in); got != want {
			t.Errorf("Truncate(%.20q) = %.20q of %d bytes, want %d", in, got, len(got), len(want))
		}
	}
}
