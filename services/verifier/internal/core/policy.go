package core

import (
	"context"
	"time"
)

// Policy is a policy in force, ready to be evaluated.
type Policy struct {
	Name string
	// Digest is the SHA-256 of the document, `sha256:` and hex.
	Digest string
	// Matches tells whether the policy is for a repository, given as
	// registry/repository.
	Matches func(repository string) bool
	// Environments that ask for the policy, sorted; none is every environment.
	Environments []string
	// Trust narrows whose signatures count; nil is all trust roots.
	Trust *Trust
	// Require lists the attestations that must be there.
	Require []Requirement
	// AdvisoryMaxAge bounds the age of the advisory snapshot; 0 is no bound.
	AdvisoryMaxAge time.Duration
	Rules          []Rule
	// Unseen are the parts of evidence that no rule looks at.
	Unseen Parts
}

// Requirement asks for a verified attestation.
type Requirement struct {
	PredicateType string
	// Signer is a name of the policy's Trust; empty is any signer that counts.
	Signer string
	// MaxAge counts from the time it was signed; 0 is no bound.
	MaxAge time.Duration
}

// Rule is one rule of a policy.
type Rule struct {
	Name    string
	Message string
	Control string
	// Warn makes a rule that does not hold a warning instead of a refusal.
	Warn  bool
	Check Check
}

// Check evaluates the expressions of one rule. It must be deterministic and
// safe for concurrent use.
type Check interface {
	// Evaluate returns whether the rule holds and, if it does not, what broke it.
	Evaluate(ctx context.Context, f *Facts) (holds bool, items []string, err error)
}
