package core

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

// PredicateReport is the predicate type that carries the scan report.
const PredicateReport = "https://cosign.sigstore.dev/attestation/vuln/v1"

// Input is all that a verdict is made from.
type Input struct {
	// Image with its digest.
	Image imageref.Ref
	// Platforms in the order of the index; one for a single image.
	Platforms []PlatformEvidence
	// Policies in force; Judge takes those that match.
	Policies []Policy
	// Exceptions there are; Judge takes those that match and have not ended.
	Exceptions []Exception
	// VEX finds the statements of imported documents.
	VEX VexIndex
	Now time.Time
	// OnVexMismatch, if set, is told of every VEX statement about a vulnerability
	// that was found which had no effect, and why.
	OnVexMismatch func(VexMismatch)
}

// Judge evaluates the policies that match the image on every platform. Whatever
// is not an evaluated PASS or FAIL is UNKNOWN with a reason. The error is only
// that of the context: an evaluation that was broken off is no verdict.
func Judge(ctx context.Context, in Input) (Verdict, error) {
	v := Verdict{Image: in.Image, EvaluateTime: in.Now}
	// The verdict names the tag for people; nothing is decided by it.
	in.Image.Tag = ""
	policies := matching(in.Policies, in.Image)
	var ends deadline
	used := map[string]ExceptionUse{}
	var vex []VexUse
	for i := range in.Platforms {
		j := platformJudge{in: in, evidence: &in.Platforms[i], ends: &ends, used: used}
		pv := j.judge(ctx, policies)
		if err := ctx.Err(); err != nil {
			return Verdict{}, fmt.Errorf("judge %s: %w", in.Image.Digest, err)
		}
		v.Platforms = append(v.Platforms, pv)
		v.State = Worse(v.State, pv.State)
		v.Reasons = append(v.Reasons, j.reasons...)
		vex = append(vex, j.vex...)
	}
	if len(in.Platforms) == 0 {
		v.State = StateUnknown
		v.Reasons = []Reason{{Code: CodeEvidenceMissing, Message: "the image has no platform manifest that could be judged"}}
	}
	slices.SortStableFunc(v.Reasons, func(a, b Reason) int { return a.Code.importance() - b.Code.importance() })
	if len(v.Reasons) > MaxReasons {
		v.Reasons = v.Reasons[:MaxReasons]
	}
	v.ExpireTime = ends.first
	for _, name := range slices.Sorted(maps.Keys(used)) {
		v.Exceptions = append(v.Exceptions, used[name])
	}
	v.VEX, v.VEXCount = vexUses(vex)
	return v, nil
}

// Unjudged returns the UNKNOWN verdict of an image that no policy could be
// evaluated on.
func Unjudged(image imageref.Ref, code Code, message string, now time.Time) Verdict {
	return Verdict{
		Image:        image,
		State:        StateUnknown,
		Reasons:      []Reason{{Code: code, Message: Truncate(message)}},
		EvaluateTime: now,
	}
}

func matching(all []Policy, image imageref.Ref) []Policy {
	var out []Policy
	for _, p := range all {
		if p.Matches(image.Name()) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b Policy) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// deadline keeps the first of several times.
type deadline struct{ first time.Time }

func (d *deadline) add(t time.Time) {
	if d.first.IsZero() || t.Before(d.first) {
		d.first = t
	}
}

type platformJudge struct {
	in       Input
	evidence *PlatformEvidence
	ends     *deadline
	reasons  []Reason
	// exceptions in force for the manifest, ordered by name.
	exceptions []Exception
	// used collects, by name, those that the verdict rests on.
	used map[string]ExceptionUse
	// vex are findings that do not affect the manifest.
	vex []VexUse
}

func (j *platformJudge) judge(ctx context.Context, policies []Policy) PlatformVerdict {
	e := j.evidence
	pv := PlatformVerdict{
		Digest:   e.Digest,
		Platform: e.Platform,
		State:    StatePass,
		Inputs:   Inputs{Attestations: e.Attestations},
	}
	for i := range policies {
		pv.Inputs.PolicyDigests = append(pv.Inputs.PolicyDigests, policies[i].Digest)
	}
	j.exceptions = inForce(j.in.Exceptions, j.in.Image, e.Digest, j.in.Now)
	for i := range j.exceptions {
		pv.Inputs.ExceptionDigests = append(pv.Inputs.ExceptionDigests, j.exceptions[i].Digest)
	}
	if len(policies) == 0 {
		j.because(CodeNoPolicy, "", "", "no policy matches "+j.in.Image.Name())
		pv.State = StateUnknown
	}
	if e.Report == nil {
		j.lacking(PredicateReport, "")
		pv.State = StateUnknown
		return pv
	}
	if e.Report.Source.SignTime.Before(e.NotBefore) {
		j.because(CodeEvidenceInvalid, "", "", fmt.Sprintf("the newest scan report is of %s, but one of %s was judged before and is gone",
			e.Report.Source.SignTime.UTC().Format(time.RFC3339), e.NotBefore.UTC().Format(time.RFC3339)))
		pv.State = StateUnknown
		return pv
	}
	pv.Inputs.AdvisoryDigest = e.Report.AdvisoryDigest
	pv.Inputs.AdvisoryTime = e.Report.AdvisoryTime
	if e.Report.Incomplete {
		j.because(CodeScanIncomplete, "", "", "the scan is incomplete: "+problems(e.Report.Problems))
		pv.State = StateUnknown
	}
	unsound := pv.State != StatePass
	facts := j.facts()
	pv.Inputs.VexDigests = j.applyVex(facts)
	for i := range policies {
		pv.Unsound = pv.Unsound || unsound && len(policies[i].Environments) > 0
		r := j.policy(ctx, &policies[i], facts)
		pv.State = Worse(pv.State, r.State)
		pv.Policies = append(pv.Policies, r)
	}
	return pv
}

func (j *platformJudge) policy(ctx context.Context, p *Policy, facts *Facts) PolicyResult {
	r := PolicyResult{Policy: p.Name, Digest: p.Digest, Environments: p.Environments, State: StatePass}
	if source := &j.evidence.Report.Source; p.Trust != nil {
		if !p.Trust.counts(source, "") {
			// What rules would say of it is worth nothing to this policy.
			j.because(CodeEvidenceInvalid, p.Name, "", "the scan report is signed by "+by(source)+", whom the policy does not trust")
			r.State = StateUnknown
			return r
		}
		own := *facts
		own.Attestations = slices.DeleteFunc(slices.Clone(facts.Attestations), func(a Attestation) bool { return !p.Trust.counts(&a, "") })
		facts = &own
	}
	for _, req := range p.Require {
		if !j.require(p, req) {
			r.State = Worse(r.State, StateUnknown)
		}
	}
	if !j.advisories(p) {
		r.State = Worse(r.State, StateUnknown)
	}
	if j.evidence.Unread != "" && len(p.Rules) > 0 && p.Unseen&PartPredicates == 0 {
		j.because(CodeEvidenceInvalid, p.Name, "", "a rule looks at attestations, and there may be some that were not read: "+j.evidence.Unread)
		r.State = Worse(r.State, StateUnknown)
	}
	for i := range p.Rules {
		res := j.rule(ctx, p.Name, &p.Rules[i], facts)
		switch res.Outcome {
		case OutcomeDenied:
			r.State = Worse(r.State, StateFail)
		case OutcomeError:
			r.State = Worse(r.State, StateUnknown)
		case OutcomeUnspecified, OutcomePassed, OutcomeWarned, OutcomeExcepted:
		}
		r.Rules = append(r.Rules, res)
	}
	return r
}

// require tells whether the newest attestation of a type is there and fresh.
func (j *platformJudge) require(p *Policy, req Requirement) bool {
	policy := p.Name
	var newest, other *Attestation
	for i := range j.evidence.Attestations {
		a := &j.evidence.Attestations[i]
		switch {
		case a.PredicateType != req.PredicateType:
		case (p.Trust != nil || req.Signer != "") && !p.Trust.counts(a, req.Signer):
			other = a
		case newest == nil || a.SignTime.After(newest.SignTime):
			newest = a
		}
	}
	if newest == nil && other != nil {
		j.because(CodeEvidenceInvalid, policy, "", fmt.Sprintf("no attestation of type %s is by %s; one is by %s",
			req.PredicateType, cmp.Or(req.Signer, "a signer of the policy"), by(other)))
		return false
	}
	if newest == nil {
		j.lacking(req.PredicateType, policy)
		return false
	}
	if req.MaxAge == 0 {
		return true
	}
	end := newest.SignTime.Add(req.MaxAge)
	if !j.in.Now.Before(end) {
		j.because(CodeEvidenceStale, policy, "", fmt.Sprintf("the newest %s was signed %s, more than %s ago",
			req.PredicateType, newest.SignTime.UTC().Format(time.RFC3339), req.MaxAge))
		return false
	}
	j.ends.add(end)
	return true
}

func (j *platformJudge) advisories(p *Policy) bool {
	if p.AdvisoryMaxAge == 0 {
		return true
	}
	data := j.evidence.Report.AdvisoryTime
	end := data.Add(p.AdvisoryMaxAge)
	if data.IsZero() || !j.in.Now.Before(end) {
		j.because(CodeAdvisoriesStale, p.Name, "", fmt.Sprintf("the advisories behind the report are of %s, more than %s ago",
			data.UTC().Format(time.RFC3339), p.AdvisoryMaxAge))
		return false
	}
	j.ends.add(end)
	return true
}

func (j *platformJudge) rule(ctx context.Context, policy string, r *Rule, facts *Facts) RuleResult {
	res := RuleResult{Rule: r.Name, Control: r.Control, Outcome: OutcomePassed}
	holds, items, err := r.Check.Evaluate(ctx, facts)
	if err != nil {
		res.Outcome = OutcomeError
		res.Message = Truncate(err.Error())
		j.because(CodeRuleError, policy, r.Name, err.Error())
		return res
	}
	if holds {
		return res
	}
	res.Message, res.ItemCount = Truncate(r.Message), len(items)
	for _, it := range items[:min(len(items), MaxItems)] {
		res.Items = append(res.Items, Truncate(it))
	}
	message := r.Message
	if len(items) > 0 {
		message += ": " + strings.Join(items[:min(len(items), 5)], ", ")
		if len(items) > 5 {
			message += fmt.Sprintf(" and %d more", len(items)-5)
		}
	}
	if used := j.excepted(ctx, policy, r, facts); len(used) > 0 {
		res.Outcome, res.Exceptions = OutcomeExcepted, j.use(used, policy, r, facts, message)
		return res
	}
	code := CodeRuleDenied
	res.Outcome = OutcomeDenied
	if r.Warn {
		res.Outcome, code = OutcomeWarned, CodeRuleWarned
	}
	j.because(code, policy, r.Name, message)
	return res
}

func (j *platformJudge) facts() *Facts {
	r := j.evidence.Report
	image := r.Image
	ref := j.in.Image
	image.Registry, image.Repository = ref.Registry, ref.Repository
	image.Digest = j.evidence.Digest
	image.Platform = j.evidence.Platform.String()
	if image.Created.IsZero() {
		image.Created = time.Unix(0, 0).UTC()
	}
	if image.DistroEndTime.IsZero() {
		image.DistroEndTime = time.Unix(0, 0).UTC()
	}
	return &Facts{
		Image:        &image,
		Packages:     r.Packages,
		Findings:     r.Findings,
		Attestations: j.evidence.Attestations,
		Advisories: Advisories{
			Digest:   r.AdvisoryDigest,
			Age:      j.in.Now.Sub(r.AdvisoryTime),
			DataTime: r.AdvisoryTime,

			ExploitedKnown: !r.NoExploited, ScoresKnown: !r.NoScores,
		},
		Now: j.in.Now,
	}
}

// lacking explains why there is no attestation of a type: none was attached, or
// what was attached is no evidence.
func (j *platformJudge) lacking(predicateType, policy string) {
	var rejected []string
	for _, r := range j.evidence.Rejected {
		if r.PredicateType == predicateType || r.PredicateType == "" {
			rejected = append(rejected, r.Why)
		}
	}
	if len(rejected) == 0 {
		j.because(CodeEvidenceMissing, policy, "", "no attestation of type "+predicateType)
		return
	}
	j.because(CodeEvidenceInvalid, policy, "", fmt.Sprintf("no valid attestation of type %s: %s", predicateType, problems(rejected)))
}

func (j *platformJudge) because(code Code, policy, rule, message string) {
	j.reasons = append(j.reasons, Reason{
		Code: code, Message: Truncate(message), Policy: policy, Rule: rule, PlatformDigest: j.evidence.Digest,
	})
}

func problems(all []string) string {
	if len(all) == 0 {
		return "no details"
	}
	text := strings.Join(all[:min(len(all), 3)], "; ")
	if len(all) > 3 {
		text += fmt.Sprintf("; and %d more", len(all)-3)
	}
	return text
}

// Truncate shortens a text to MaxText bytes of valid UTF-8 without NUL, which PostgreSQL
// refuses.
func Truncate(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) <= MaxText {
		return s
	}
	const ellipsis = "…"
	return strings.ToValidUTF8(s[:MaxText-len(ellipsis)], "") + ellipsis
}
