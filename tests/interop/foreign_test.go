package interop

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/fleet"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	verifier "github.com/seaworthy-dev/seaworthy/services/verifier/app"
	"github.com/seaworthy-dev/seaworthy/tests/internal/allinone"
	"github.com/seaworthy-dev/seaworthy/tests/internal/images"
)

// reviewed wants an attestation that only cosign writes here.
const reviewed = `apiVersion: seaworthy.dev/v1
kind: Policy
metadata:
  name: reviewed
  description: Somebody looked at it.
spec:
  match:
    repositories: ["**"]
  require:
    - predicate_type: https://example.com/review/v1
  rules:
    - name: approved
      expression: attestations.exists(a, a.predicate_type == "https://example.com/review/v1" && a.predicate.approved == true)
      message: nobody approved it
      severity: deny
`

// TestInterop_CosignWrites: what cosign itself signed and attached, with a key that
// the verifier is told to trust, is evidence for a policy.
func TestInterop_CosignWrites(t *testing.T) {
	c := newCosign(t, emptyRoot)
	if _, err := c.run(t.Context(), "generate-key-pair"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.run(t.Context(), "signing-config", "create", "--out", "signing.json"); err != nil {
		t.Fatal(err)
	}
	policy := write(t, c.home, "reviewed.yaml", []byte(reviewed))
	a := allinone.Start(t, func(cfg *fleet.Config) {
		cfg.Verifier.Policies.Files = append(cfg.Verifier.Policies.Files, policy)
		cfg.Verifier.Trust.Roots = append(cfg.Verifier.Trust.Roots, verifier.RootConfig{
			Name: "reviewers", Keys: []string{filepath.Join(c.home, "cosign.pub")}, States: []string{reviewType},
		})
	})
	repository := a.Registry() + "/interop/foreign"
	digest := images.Push(t, images.Clean(t, "foreign"), repository+":1")
	if v := a.Verdict(t, digest); v.GetState() == verifierv1.Verdict_STATE_PASS {
		t.Fatalf("nobody reviewed it, and yet: %v", v)
	}
	predicate := write(t, c.home, "review.json", []byte(`{"approved":true}`))
	if _, err := c.run(t.Context(), "attest", "--key", "cosign.key", "--predicate", predicate, "--type", reviewType,
		"--signing-config", "signing.json", "--yes", repository+"@"+digest); err != nil {
		t.Fatalf("cosign attest: %v", err)
	}
	// The same push again makes the verifier look again.
	again := images.Push(t, images.Clean(t, "foreign"), repository+":2")
	if again != digest {
		t.Fatalf("the image changed: %s", again)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		answer, err := a.Verifier.GetVerdict(t.Context(), &verifierv1.GetVerdictRequest{Image: imageRef(digest), Wait: true})
		if err != nil {
			t.Fatal(err)
		}
		v := answer.GetVerdict()
		if v.GetState() == verifierv1.Verdict_STATE_PASS {
			for _, input := range v.GetPlatforms()[0].GetInputs().GetAttestations() {
				if input.GetPredicateType() == reviewType {
					return
				}
			}
			t.Fatalf("it passes without the review: %v", v)
		}
		if time.Now().After(deadline) {
			t.Fatalf("cosign's attestation is no evidence: %v", v)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func imageRef(digest string) *typev1.ImageRef { return &typev1.ImageRef{Digest: digest} }
