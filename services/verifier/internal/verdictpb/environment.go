package verdictpb

import (
	"slices"

	"google.golang.org/protobuf/proto"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// ForEnvironment is what a verdict says to an environment: policies that ask for
// other environments do not count. Empty, or a name that no policy of the verdict
// knows, is answered by every policy, so that a misspelt name gets no milder answer.
// The verdict itself stays as it is. What is left out makes it another document than
// the recorded one, so it has no digest.
func ForEnvironment(v *verifierv1.Verdict, environment string) *verifierv1.Verdict {
	if environment == "" || !knows(v, environment) {
		return v
	}
	out := proto.CloneOf(v)
	out.Environment, out.Digest = environment, ""
	left := map[string]bool{} // policies that do not count
	out.State = verifierv1.Verdict_STATE_UNSPECIFIED
	for _, p := range out.GetPlatforms() {
		p.Policies = slices.DeleteFunc(p.GetPolicies(), func(r *verifierv1.PolicyResult) bool {
			skip := !asks(r, environment)
			if skip {
				left[r.GetPolicy()] = true
			}
			return skip
		})
	}
	out.Reasons = slices.DeleteFunc(out.GetReasons(), func(r *verifierv1.Reason) bool { return left[r.GetPolicy()] })
	for _, p := range out.GetPlatforms() {
		p.State = platformState(p)
		out.State = verifierv1.Verdict_State(core.Worse(core.State(out.GetState()), core.State(p.GetState())))
	}
	if len(out.GetReasons()) == 0 {
		// Those there are were not among the first of all.
		out.Reasons = denials(out)
	}
	return out
}

// platformState is the worst of what is left of a platform.
func platformState(p *verifierv1.PlatformVerdict) verifierv1.Verdict_State {
	state := core.StateUnknown // no policy is left, or the evidence is unsound
	if !p.GetUnsound() && len(p.GetPolicies()) > 0 {
		state = core.StatePass
	}
	for _, r := range p.GetPolicies() {
		state = core.Worse(state, core.State(r.GetState()))
	}
	return verifierv1.Verdict_State(state)
}

func knows(v *verifierv1.Verdict, environment string) bool {
	for _, p := range v.GetPlatforms() {
		for _, r := range p.GetPolicies() {
			if slices.Contains(r.GetEnvironments(), environment) {
				return true
			}
		}
	}
	return false
}

func asks(r *verifierv1.PolicyResult, environment string) bool {
	return len(r.GetEnvironments()) == 0 || slices.Contains(r.GetEnvironments(), environment)
}

// denials are reasons made of the rules that deny, and of what is UNKNOWN otherwise.
func denials(v *verifierv1.Verdict) []*verifierv1.Reason {
	var out []*verifierv1.Reason
	for _, p := range v.GetPlatforms() {
		if len(p.GetPolicies()) == 0 {
			out = append(out, Reason(core.Reason{Code: core.CodeNoPolicy, Message: "no policy asks for this environment", PlatformDigest: p.GetDigest()}))
		}
		for _, policy := range p.GetPolicies() {
			for _, r := range policy.GetRules() {
				if r.GetOutcome() == verifierv1.RuleResult_OUTCOME_DENIED {
					out = append(out, Reason(core.Reason{
						Code: core.CodeRuleDenied, Message: r.GetMessage(), Policy: policy.GetPolicy(), Rule: r.GetRule(), PlatformDigest: p.GetDigest(),
					}))
				}
			}
		}
	}
	return out[:min(len(out), core.MaxReasons)]
}
