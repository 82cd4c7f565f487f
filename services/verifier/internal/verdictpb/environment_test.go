package verdictpb_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
)

const (
	pass    = verifierv1.Verdict_STATE_PASS
	fail    = verifierv1.Verdict_STATE_FAIL
	unknown = verifierv1.Verdict_STATE_UNKNOWN
)

func result(name string, state verifierv1.Verdict_State, environments ...string) *verifierv1.PolicyResult {
	r := &verifierv1.PolicyResult{Policy: name, State: state, Environments: environments}
	if state == fail {
		r.Rules = []*verifierv1.RuleResult{{Rule: "r", Outcome: verifierv1.RuleResult_OUTCOME_DENIED, Message: "no"}}
	}
	return r
}

func TestForEnvironment(t *testing.T) {
	t.Parallel()
	platform := func(unsound bool, policies ...*verifierv1.PolicyResult) *verifierv1.PlatformVerdict {
		return &verifierv1.PlatformVerdict{Policies: policies, Unsound: unsound, State: fail}
	}
	all := platform(false, result("all", pass), result("prod", fail, "prod", "stage"), result("test", unknown, "test"))
	for name, tc := range map[string]struct {
		environment string
		platforms   []*verifierv1.PlatformVerdict
		want        verifierv1.Verdict_State
		whole       bool
		reason      string
	}{
		"none":             {"", []*verifierv1.PlatformVerdict{all}, fail, true, "prod"},
		"misspelt":         {"tset", []*verifierv1.PlatformVerdict{all}, fail, true, "prod"},
		"the strict one":   {"prod", []*verifierv1.PlatformVerdict{all}, fail, false, "prod"},
		"another":          {"test", []*verifierv1.PlatformVerdict{all}, unknown, false, ""},
		"milder":           {"dev", []*verifierv1.PlatformVerdict{platform(false, result("all", pass, "dev", "prod"), result("prod", fail, "prod"))}, pass, false, ""},
		"unsound evidence": {"dev", []*verifierv1.PlatformVerdict{platform(true, result("all", pass, "dev"), result("prod", fail, "prod"))}, unknown, false, ""},
		"worst platform": {"dev", []*verifierv1.PlatformVerdict{
			platform(false, result("a", pass, "dev")), platform(false, result("b", fail)),
		}, fail, false, "prod"},
		"none left on a platform": {"dev", []*verifierv1.PlatformVerdict{
			platform(false, result("a", pass, "dev")), platform(false, result("prod", fail, "prod")),
		}, unknown, false, "NO_POLICY"},
	} {
		v := &verifierv1.Verdict{State: fail, Digest: "sha256:x", Platforms: tc.platforms, Reasons: []*verifierv1.Reason{{Code: "RULE_DENIED", Policy: "prod"}}}
		before := proto.CloneOf(v)
		got := verdictpb.ForEnvironment(v, tc.environment)
		if !proto.Equal(before, v) {
			t.Errorf("%s: the verdict was changed", name)
		}
		if got.GetState() != tc.want || (got.GetDigest() != "") != tc.whole || (got.GetEnvironment() == "") != tc.whole {
			t.Errorf("%s: %v", name, got)
		}
		reason := ""
		if len(got.GetReasons()) > 0 {
			if reason = got.GetReasons()[0].GetPolicy(); reason == "" {
				reason = got.GetReasons()[0].GetCode()
			}
		}
		if reason != tc.reason {
			t.Errorf("%s: reasons %v", name, got.GetReasons())
		}
	}
}
