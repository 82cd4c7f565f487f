package core

import "strings"

// State of a verdict. The zero value means that there is none.
type State int

// States, in the numbers of seaworthy.verifier.v1.Verdict.State.
const (
	StateUnspecified State = 0
	StatePass        State = 1
	StateFail        State = 2
	StateUnknown     State = 3
)

// String gives the name used in messages and logs.
func (s State) String() string {
	switch s {
	case StatePass:
		return "PASS"
	case StateFail:
		return "FAIL"
	case StateUnknown:
		return "UNKNOWN"
	default:
		return "UNSPECIFIED"
	}
}

// Worse returns the state that decides when both hold: FAIL over UNKNOWN over
// PASS.
func Worse(a, b State) State {
	if badness(b) > badness(a) {
		return b
	}
	return a
}

func badness(s State) int {
	switch s {
	case StateFail:
		return 3
	case StateUnknown:
		return 2
	case StatePass:
		return 1
	default:
		return 0
	}
}

// Outcome of a rule. The zero value means that there is none.
type Outcome int

// Outcomes, in the numbers of seaworthy.verifier.v1.RuleResult.Outcome.
const (
	OutcomeUnspecified Outcome = 0
	OutcomePassed      Outcome = 1
	OutcomeDenied      Outcome = 2
	OutcomeWarned      Outcome = 3
	OutcomeError       Outcome = 4
	OutcomeExcepted    Outcome = 5
)

// Severity ranks of findings, in the numbers of seaworthy.type.v1.Severity.
const (
	SeverityUnknown    int64 = 1
	SeverityNegligible int64 = 2
	SeverityLow        int64 = 3
	SeverityMedium     int64 = 4
	SeverityHigh       int64 = 5
	SeverityCritical   int64 = 6
)

// SeverityName returns the name of a severity rank; a rank that has none is
// UNKNOWN.
func SeverityName(rank int64) string {
	switch rank {
	case SeverityNegligible:
		return "NEGLIGIBLE"
	case SeverityLow:
		return "LOW"
	case SeverityMedium:
		return "MEDIUM"
	case SeverityHigh:
		return "HIGH"
	case SeverityCritical:
		return "CRITICAL"
	default:
		return "UNKNOWN"
	}
}

// Code says why a verdict is what it is. The list is the contract of
// seaworthy.verifier.v1.Reason.
type Code string

// Codes of reasons.
const (
	CodeRuleDenied      Code = "RULE_DENIED"
	CodeRuleWarned      Code = "RULE_WARNED"
	CodeRuleError       Code = "RULE_ERROR"
	CodeRuleExcepted    Code = "RULE_EXCEPTED"
	CodeNeverSeen       Code = "NEVER_SEEN"
	CodePending         Code = "PENDING"
	CodePipelineFailed  Code = "PIPELINE_FAILED"
	CodeEvidenceMissing Code = "EVIDENCE_MISSING"
	CodeEvidenceInvalid Code = "EVIDENCE_INVALID"
	CodeEvidenceStale   Code = "EVIDENCE_STALE"
	CodeAdvisoriesStale Code = "ADVISORIES_STALE"
	CodeScanIncomplete  Code = "SCAN_INCOMPLETE"
	CodeNoPolicy        Code = "NO_POLICY"
	CodeExpired         Code = "EXPIRED"
	// CodeInvalidReference: one image of a batch is not named by a valid reference.
	CodeInvalidReference Code = "INVALID_REFERENCE"
	// CodeImageGone: the registry no longer has the image.
	CodeImageGone Code = "IMAGE_GONE"
	// CodeEvidenceOverdue: a newer scan report differs and was not judged in
	// time, or a step gave up on it.
	CodeEvidenceOverdue Code = "EVIDENCE_OVERDUE"
	// CodeEvidenceUnreadable: the image could not be judged by rules that have changed.
	CodeEvidenceUnreadable Code = "EVIDENCE_UNREADABLE"
	// CodeRulesUnreadable: this release cannot read a stored rule that may be for the image.
	CodeRulesUnreadable Code = "RULES_UNREADABLE"
)

// NotJudged tells whether a verdict with this first reason only says that the image could
// not be judged: what it rests on is told by an earlier one.
func (c Code) NotJudged() bool {
	return c == CodeEvidenceOverdue || c == CodeEvidenceUnreadable || c == CodeRulesUnreadable || c == CodeImageGone
}

// importance orders reasons: what refuses the image comes first, what makes the
// verdict unsound next, warnings last.
func (c Code) importance() int {
	switch c {
	case CodeRuleDenied:
		return 0
	case CodeRuleWarned, CodeRuleExcepted:
		return 2
	default:
		return 1
	}
}

// Platform of one manifest.
type Platform struct {
	OS, Architecture, Variant string
}

// String gives `os/architecture` or `os/architecture/variant`, and nothing for
// a platform that is not known.
func (p Platform) String() string {
	if p == (Platform{}) {
		return ""
	}
	parts := []string{p.OS, p.Architecture}
	if p.Variant != "" {
		parts = append(parts, p.Variant)
	}
	return strings.Join(parts, "/")
}

// Cause says why a verdict changed. The zero value was not recorded.
type Cause int

// Causes, in the numbers of seaworthy.verifier.v1.VerdictChange.Cause.
const (
	CauseUnspecified Cause = 0
	CauseFirst       Cause = 1
	CauseEvidence    Cause = 2
	CauseAdvisories  Cause = 3
	CausePolicy      Cause = 4
	CauseException   Cause = 5
	CauseExpiry      Cause = 6
	CausePipeline    Cause = 7
	CauseVex         Cause = 8
	CauseOverdue     Cause = 9
	CauseTrust       Cause = 12
)
