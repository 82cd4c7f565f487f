package consumer

import (
	"fmt"
	"slices"
	"strings"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

// causeOf tells why a verdict differs from the one before, from what the two were
// made from. Nil is no verdict before.
func causeOf(before, after *verifierv1.Verdict) store.Cause {
	if before == nil {
		return store.Cause{Kind: core.CauseFirst, Detail: "the first verdict of the image"}
	}
	old, now := inputsOf(before), inputsOf(after)
	switch {
	case old.advisories != "" && now.advisories != "" && old.advisories != now.advisories:
		return store.Cause{Kind: core.CauseAdvisories, Detail: core.Truncate("advisories " + now.advisories + " instead of " + old.advisories)}
	case !slices.Equal(old.attestations, now.attestations):
		return store.Cause{Kind: core.CauseEvidence, Detail: core.Truncate(difference("attestation", old.attestations, now.attestations))}
	case !slices.Equal(old.policies, now.policies):
		return store.Cause{Kind: core.CausePolicy, Detail: core.Truncate(difference("policy", old.policies, now.policies))}
	case !slices.Equal(old.exceptions, now.exceptions):
		return store.Cause{Kind: core.CauseException, Detail: core.Truncate(difference("exception", old.exceptions, now.exceptions))}
	case !slices.Equal(old.vex, now.vex):
		return store.Cause{Kind: core.CauseVex, Detail: core.Truncate(difference("VEX document", old.vex, now.vex))}
	default:
		return store.Cause{Kind: core.CauseEvidence, Detail: "the evidence was read again"}
	}
}

type inputSummary struct {
	advisories             string
	attestations, policies []string
	// exceptions that were used, by name.
	exceptions []string
	// vex documents that were used, by digest.
	vex []string
}

func inputsOf(v *verifierv1.Verdict) inputSummary {
	var s inputSummary
	for _, p := range v.GetPlatforms() {
		if d := p.GetInputs().GetAdvisorySnapshotDigest(); d != "" && s.advisories == "" {
			s.advisories = d
		}
		for _, a := range p.GetInputs().GetAttestations() {
			s.attestations = append(s.attestations, a.GetManifestDigest())
		}
		s.policies = append(s.policies, p.GetInputs().GetPolicyDigests()...)
	}
	for _, e := range v.GetExceptions() {
		s.exceptions = append(s.exceptions, e.GetName())
	}
	for _, u := range v.GetVex() {
		s.vex = append(s.vex, u.GetDocumentDigest())
	}
	slices.Sort(s.vex)
	s.vex = slices.Compact(s.vex)
	slices.Sort(s.attestations)
	slices.Sort(s.policies)
	s.policies = slices.Compact(s.policies)
	return s
}

// difference names what is new and what is gone.
func difference(kind string, old, now []string) string {
	var parts []string
	for _, d := range now {
		if !slices.Contains(old, d) {
			parts = append(parts, fmt.Sprintf("%s %s is new", kind, d))
		}
	}
	for _, d := range old {
		if !slices.Contains(now, d) {
			parts = append(parts, fmt.Sprintf("%s %s is gone", kind, d))
		}
	}
	return strings.Join(parts, "; ")
}
