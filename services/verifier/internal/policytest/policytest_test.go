package policytest_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policytest"
)

const head = "apiVersion: seaworthy.dev/v1\nkind: PolicyTest\nspec:\n  policies: [p.yaml]\n  cases:\n"

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"no YAML":          {"a: [", "line 1"},
		"unknown field":    {head + "    - {name: a, fact: {}}\n", "line 6: unknown field fact"},
		"kind":             {strings.Replace(head, "PolicyTest", "Policy", 1) + "    - {name: a, facts: {}, expect: {state: PASS}}\n", "kind PolicyTest"},
		"no policies":      {strings.Replace(head, "[p.yaml]", "[]", 1) + "    - {name: a, facts: {}, expect: {state: PASS}}\n", "spec.policies must have"},
		"no cases":         {head, "spec.cases must have"},
		"no name":          {head + "    - {facts: {}, expect: {state: PASS}}\n", "case 1: a name is needed"},
		"name twice":       {head + strings.Repeat("    - {name: a, facts: {}, expect: {state: PASS}}\n", 2), `case "a": the name is used`},
		"no facts":         {head + "    - {name: a, expect: {state: PASS}}\n", "either facts or a recorded image"},
		"both":             {head + "    - {name: a, facts: {}, recorded: x, expect: {state: PASS}}\n", "either facts or a recorded image"},
		"image of another": {head + "    - {name: a, recorded: x, image: r.example/a:1, expect: {state: PASS}}\n", "leave image out"},
		"bad image":        {head + "    - {name: a, facts: {}, image: 'r.example/A B', expect: {state: PASS}}\n", `case "a": image:`},
		"environment":      {head + "    - {name: a, facts: {}, environment: 'A', expect: {state: PASS}}\n", "environment must be"},
		"nothing expected": {head + "    - {name: a, facts: {}}\n", "expect must say something"},
		"state":            {head + "    - {name: a, facts: {}, expect: {state: pass}}\n", `"pass" is none of PASS`},
		"outcome":          {head + "    - {name: a, facts: {}, expect: {rules: {r: fine}}}\n", `expect.rules.r: "fine" is none of`},
		"reason":           {head + "    - {name: a, facts: {}, expect: {reasons: [x]}}\n", "invalid reason code"},
		"two documents":    {head + "    - {name: a, facts: {}, expect: {state: PASS}}\n---\na: b\n", "one document"},
		"too large":        {strings.Repeat("#", policytest.MaxFile+1), "more than"},
		"too many":         {head + strings.Repeat("    - {}\n", policytest.MaxCases+1), "1 to 1000 cases"},
	} {
		if _, err := policytest.Parse([]byte(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// run runs the only case of a test against a policy.
func run(t *testing.T, facts, expect, rules string) (policytest.Result, error) {
	t.Helper()
	s, err := policytest.Parse([]byte(head + "    - name: a\n      facts: " + facts + "\n      expect: " + expect + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := policy.NewLoader()
	if err != nil {
		t.Fatal(err)
	}
	set, err := l.Parse("p", []byte("apiVersion: seaworthy.dev/v1\nkind: Policy\nmetadata: {name: p}\nspec:\n  match: {repositories: [\"**\"]}\n  rules: "+rules+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return policytest.Run(t.Context(), &s.Cases[0], set, func(string) ([]byte, error) { return nil, errors.New("no files") })
}

func TestRun(t *testing.T) {
	t.Parallel()
	const exploited = `[{name: r, message: exploited, severity: deny, expression: "findings.all(f, !f.kev)", items: "findings.filter(f, f.kev).map(f, f.id)"}]`
	for name, tc := range map[string]struct {
		facts, expect, rules string
		problems             []string
	}{
		"holds":         {"{}", "{state: PASS, rules: {r: passed, p/r: passed}, items: {r: []}}", exploited, nil},
		"is denied":     {"{findings: [{id: b, kev: true}, {id: a, kev: true}]}", "{state: FAIL, rules: {r: denied}, items: {r: [a, b]}, reasons: [RULE_DENIED]}", exploited, nil},
		"wrong state":   {"{findings: [{id: a, kev: true}]}", "{state: PASS}", exploited, []string{"the state is FAIL, expected PASS\n  RULE_DENIED: exploited: a"}},
		"wrong outcome": {"{findings: [{id: a, kev: true}]}", "{rules: {r: warned}}", exploited, []string{"rule r is denied, expected warned: exploited; a"}},
		"wrong items":   {"{findings: [{id: a, kev: true}]}", "{items: {r: [b]}}", exploited, []string{`items of rule r are ["a"], expected ["b"]`}},
		"no such rule":  {"{}", "{rules: {x: passed}}", exploited, []string{"rule x was not evaluated"}},
		"no reason":     {"{}", "{reasons: [NO_POLICY]}", exploited, []string{"there is no reason NO_POLICY"}},
		"no report":     {"{attestations: []}", "{state: UNKNOWN, reasons: [EVIDENCE_MISSING]}", exploited, nil},
		"incomplete":    {"{incomplete: true}", "{state: UNKNOWN, reasons: [SCAN_INCOMPLETE]}", exploited, nil},
		"every kind of field": {
			`{image: {user: u, created: 2025-12-31T00:00:00Z, labels: {a: b}, entrypoint: [x], distro: {id: alpine}, base_image: {layer_count: 2}, ` +
				`secrets: [{kind: k, location: l}]}, packages: [{name: n, in_base_image: true}], findings: [{id: i, severity: HIGH, cvss: 9.5}], ` +
				`advisories: {age: 48h}}`,
			"{state: PASS}",
			`[{name: r, message: m, severity: deny, expression: 'image.user == "u" && now - image.created == days(1) && image.labels["a"] == "b" && image.entrypoint == ["x"] && ` +
				`image.distro.id == "alpine" && image.base_image.layer_count == 2 && image.secrets[0].kind == "k" && packages[0].in_base_image && ` +
				`findings[0].severity_rank == HIGH && findings[0].cvss > 9.0 && advisories.age == days(2)'}]`, nil,
		},
	} {
		got, err := run(t, tc.facts, tc.expect, tc.rules)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(tc.problems, got.Problems); d != "" {
			t.Errorf("%s: problems (-want +got):\n%s", name, d)
		}
	}
	for name, tc := range map[string]struct{ facts, want string }{
		"unknown field":  {"{findings: [{idd: a}]}", `line 7: facts.findings[0]: there is no field "idd"`},
		"field twice":    {"{image: {user: a}, image: {user: b}}", "or it is there twice"},
		"no list":        {"{findings: {id: a}}", "facts.findings: a list is expected"},
		"no mapping":     {"{image: a}", "facts.image: a mapping is expected"},
		"no time":        {"{image: {created: yesterday}}", `facts.image.created: "yesterday" is not a time`},
		"no duration":    {"{advisories: {age: 3d}}", `invalid duration "3d"`},
		"severity":       {"{findings: [{id: a, severity: HIHG}]}", `there is no severity "HIHG"`},
		"two severities": {"{findings: [{id: a, severity: HIGH, severity_rank: 1}]}", "severity_rank another"},
		"alias":          {"{image: &a {user: x}, findings: [*a]}", "aliases are not taken"},
	} {
		if _, err := run(t, tc.facts, "{state: PASS}", exploited); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(head + "    - {name: a, facts: {findings: [{id: a, kev: true}]}, expect: {state: PASS, rules: {r: denied}}}\n"))
	f.Add([]byte(head + "    - {name: a, facts: {image: {labels: {a: b}, created: 2026-01-01T00:00:00Z}}, expect: {items: {r: [x]}}}\n"))
	f.Add([]byte(head + "    - &a {name: a, facts: *a}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := policytest.Parse(data)
		if err != nil {
			return
		}
		for i := range s.Cases {
			r, err := policytest.Run(context.Background(), &s.Cases[i], nil, func(string) ([]byte, error) { return nil, errors.New("no files") })
			if err == nil && r.State != "UNKNOWN" {
				t.Errorf("without a policy: %+v", r)
			}
		}
	})
}
