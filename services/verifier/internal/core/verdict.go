package core

import (
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

// Limits of what a verdict carries.
const (
	// MaxReasons of a verdict.
	MaxReasons = 20
	// MaxItems of a rule that are named.
	MaxItems = 20
	// MaxText is the length of a reason's message, a rule's message or an item, in
	// bytes.
	MaxText = 500
)

// Verdict answers whether an image may run.
type Verdict struct {
	Image     imageref.Ref
	State     State
	Reasons   []Reason
	Platforms []PlatformVerdict
	// EvaluateTime is the `now` of the rules.
	EvaluateTime time.Time
	// ExpireTime is the first end of all that the verdict rests on; zero if
	// nothing it rests on ends.
	ExpireTime time.Time
	// Exceptions that it rests on, ordered by name.
	Exceptions []ExceptionUse
	// VEX names findings that do not affect the image, ordered by vulnerability and
	// package, at most MaxVexUses of VEXCount.
	VEX      []VexUse
	VEXCount int
}

// Reason is one reason of a verdict.
type Reason struct {
	Code           Code
	Message        string
	Policy         string
	Rule           string
	PlatformDigest string
}

// PlatformVerdict is the verdict of one platform manifest.
type PlatformVerdict struct {
	Digest   string
	Platform Platform
	State    State
	Policies []PolicyResult
	Inputs   Inputs
	// Unsound tells that the evidence by itself makes it UNKNOWN. It is only told where
	// a policy asks for some environments alone.
	Unsound bool
}

// Inputs name what a verdict was made from.
type Inputs struct {
	Attestations   []Attestation
	AdvisoryDigest string
	AdvisoryTime   time.Time
	// EvidenceDigest names the recorded evidence; whoever records it fills it in.
	EvidenceDigest string
	// PolicyDigests are of the policies that match, ordered by their names.
	PolicyDigests []string
	// ExceptionDigests are of the exceptions in force, ordered by name.
	ExceptionDigests []string
	// VexDigests are of the imported VEX documents that say something about a
	// vulnerability that was found, sorted.
	VexDigests []string
}

// PolicyResult is the outcome of one policy.
type PolicyResult struct {
	Policy string
	Digest string
	// Environments that ask for the policy; none is every environment.
	Environments []string
	State        State
	Rules        []RuleResult
}

// RuleResult is the outcome of one rule.
type RuleResult struct {
	Rule    string
	Outcome Outcome
	Message string
	Control string
	// Items that broke the rule, at most MaxItems of ItemCount.
	Items     []string
	ItemCount int
	// Exceptions names those that cover what broke the rule.
	Exceptions []string
}
