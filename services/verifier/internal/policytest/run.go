package policytest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
)

// defaultNow is the time of cases that name none: cases say the same at any time.
var defaultNow = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Result is the outcome of one case.
type Result struct {
	Name string
	// State that the policies gave, for people.
	State string
	// Problems are what differs from what was expected; none is a case that holds.
	Problems []string
}

// Run runs a case. The error is for a case that cannot be run.
func Run(ctx context.Context, c *Case, policies []policy.Policy, read func(file string) ([]byte, error)) (Result, error) {
	in, err := c.input(read)
	if err != nil {
		return Result{}, err
	}
	in.Policies = policy.Core(policies)
	v, err := core.Judge(ctx, in)
	if err != nil {
		return Result{}, err
	}
	m, err := verdictpb.FromCore(v)
	if err != nil {
		return Result{}, err
	}
	m = verdictpb.ForEnvironment(m, c.Environment)
	r := Result{Name: c.Name, State: core.State(m.GetState()).String()}
	r.compare(&c.Expect, m)
	return r, nil
}

func (c *Case) input(read func(file string) ([]byte, error)) (core.Input, error) {
	in := core.Input{Now: c.Now}
	if c.Recorded != "" {
		data, err := read(c.Recorded)
		if err != nil {
			return core.Input{}, err
		}
		image, err := record.DecodeImage(data)
		if err != nil {
			return core.Input{}, fmt.Errorf("%s: %w", c.Recorded, err)
		}
		if in.Image, err = imageref.Parse(image.Image); err != nil {
			return core.Input{}, fmt.Errorf("%s: %w", c.Recorded, err)
		}
		in.Platforms = image.Platforms
		if in.Now.IsZero() {
			in.Now = image.EvaluateTime
		}
		return in, nil
	}
	if in.Now.IsZero() {
		in.Now = defaultNow
	}
	in.Image = c.ref
	if c.Image == "" {
		in.Image = imageref.Ref{Registry: "registry.example", Repository: "app"}
	}
	if in.Image.Digest == "" {
		sum := sha256.Sum256([]byte(c.Name))
		in.Image.Digest = "sha256:" + hex.EncodeToString(sum[:])
	}
	e, err := evidence(&c.Facts, in.Image, in.Now)
	if err != nil {
		return core.Input{}, err
	}
	in.Platforms = []core.PlatformEvidence{e}
	return in, nil
}

// compare notes what differs from what is expected.
func (r *Result) compare(e *Expect, v *verifierv1.Verdict) {
	problem := func(format string, a ...any) { r.Problems = append(r.Problems, fmt.Sprintf(format, a...)) }
	if e.State != "" && e.State != r.State {
		problem("the state is %s, expected %s%s", r.State, e.State, because(v))
	}
	for _, name := range sorted(e.Rules) {
		switch worst := worstOf(v, name); {
		case worst == nil:
			problem("rule %s was not evaluated%s", name, because(v))
		case outcomeName(worst.GetOutcome()) != e.Rules[name]:
			problem("rule %s is %s, expected %s: %s", name, outcomeName(worst.GetOutcome()), e.Rules[name],
				strings.Join(append([]string{worst.GetMessage()}, worst.GetItems()...), "; "))
		}
	}
	for _, name := range sorted(e.Items) {
		var got []string
		if worst := worstOf(v, name); worst != nil {
			got = slices.Sorted(slices.Values(worst.GetItems()))
		}
		if want := slices.Sorted(slices.Values(e.Items[name])); !slices.Equal(got, want) {
			problem("items of rule %s are %q, expected %q", name, got, want)
		}
	}
	for _, code := range e.Reasons {
		if !slices.ContainsFunc(v.GetReasons(), func(x *verifierv1.Reason) bool { return x.GetCode() == code }) {
			problem("there is no reason %s%s", code, because(v))
		}
	}
}

func because(v *verifierv1.Verdict) string {
	var b strings.Builder
	for _, r := range v.GetReasons()[:min(len(v.GetReasons()), 5)] {
		fmt.Fprintf(&b, "\n  %s: %s", r.GetCode(), r.GetMessage())
	}
	return b.String()
}

// worstOf is the result of a rule, RULE or POLICY/RULE, on the platform where it is
// the worst; nil if no policy has evaluated it.
func worstOf(v *verifierv1.Verdict, name string) *verifierv1.RuleResult {
	var worst *verifierv1.RuleResult
	for _, p := range v.GetPlatforms() {
		for _, pol := range p.GetPolicies() {
			for _, r := range pol.GetRules() {
				if r.GetRule() != name && pol.GetPolicy()+"/"+r.GetRule() != name {
					continue
				}
				if worst == nil || slices.Index(severest, r.GetOutcome()) < slices.Index(severest, worst.GetOutcome()) {
					worst = r
				}
			}
		}
	}
	return worst
}

var severest = []verifierv1.RuleResult_Outcome{
	verifierv1.RuleResult_OUTCOME_DENIED, verifierv1.RuleResult_OUTCOME_ERROR, verifierv1.RuleResult_OUTCOME_WARNED, verifierv1.RuleResult_OUTCOME_PASSED,
}

func outcomeName(o verifierv1.RuleResult_Outcome) string {
	return strings.ToLower(strings.TrimPrefix(o.String(), "OUTCOME_"))
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
