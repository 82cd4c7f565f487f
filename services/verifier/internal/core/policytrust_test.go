package core_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// TestTrust narrows by whom evidence has to be signed.
func TestTrust(t *testing.T) {
	t.Parallel()
	scanner := core.Signer{Name: "scanner", KeyIDs: []string{"key"}}
	builder := core.Signer{Name: "builder", Covers: func(issuer, subject string) bool { return issuer == "https://i" && subject == "https://s" }}
	signed := func(key, issuer, identity string) core.Attestation {
		a := attestation("provenance", time.Hour)
		a.KeyID, a.Issuer, a.Identity = key, issuer, identity
		return a
	}
	for name, tc := range map[string]struct {
		signers []core.Signer
		signer  string
		more    []core.Attestation
		state   core.State
		message string
	}{
		"by the right ones":      {[]core.Signer{scanner, builder}, "builder", []core.Attestation{signed("id", "https://i", "https://s")}, core.StatePass, ""},
		"any of them":            {[]core.Signer{scanner, builder}, "", []core.Attestation{signed("key", "", "")}, core.StatePass, ""},
		"report by another":      {[]core.Signer{builder}, "", nil, core.StateUnknown, "the scan report is signed by key, whom the policy does not trust"},
		"by the wrong one":       {[]core.Signer{scanner, builder}, "builder", []core.Attestation{signed("key", "", "")}, core.StateUnknown, "no attestation of type provenance is by builder; one is by key"},
		"another subject":        {[]core.Signer{scanner, builder}, "", []core.Attestation{signed("id", "https://i", "https://s/x")}, core.StateUnknown, "is by a signer of the policy; one is by https://s/x (https://i)"},
		"a key's name in vain":   {[]core.Signer{scanner, builder}, "", []core.Attestation{signed("key", "https://i", "https://evil")}, core.StateUnknown, "one is by https://evil"},
		"none":                   {[]core.Signer{scanner, builder}, "builder", nil, core.StateUnknown, "no attestation of type provenance"},
		"a stranger's is beside": {[]core.Signer{scanner, builder}, "builder", []core.Attestation{signed("x", "", ""), signed("id", "https://i", "https://s")}, core.StatePass, ""},
	} {
		p := policy("p", rule("sees", check{holds: true}, false))
		p.Trust = &core.Trust{Signers: tc.signers}
		p.Require = []core.Requirement{{PredicateType: "provenance", Signer: tc.signer}}
		seen := &sight{}
		p.Rules = []core.Rule{{Name: "sees", Message: "m", Check: seen}}
		e := evidence()
		e.Attestations = append(e.Attestations, tc.more...)
		v, err := core.Judge(t.Context(), core.Input{Image: image, Platforms: []core.PlatformEvidence{e}, Policies: []core.Policy{p}, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, r := range v.Reasons {
			texts = append(texts, r.Message)
		}
		if v.State != tc.state || !strings.Contains(strings.Join(texts, "\n"), tc.message) {
			t.Errorf("%s: %s, %q", name, v.State, texts)
		}
		for _, a := range seen.attestations {
			if a.KeyID == "x" || a.Identity == "https://evil" || a.Identity == "https://s/x" {
				t.Errorf("%s: a rule saw an attestation by %+v", name, a)
			}
		}
	}
}

// sight remembers what a rule saw.
type sight struct{ attestations []core.Attestation }

func (s *sight) Evaluate(_ context.Context, f *core.Facts) (bool, []string, error) {
	s.attestations = f.Attestations
	return true, nil, nil
}
