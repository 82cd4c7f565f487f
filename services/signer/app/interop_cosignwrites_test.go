package app_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/registrytest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstoretest"
)

// TestInterop_KeylessCosignWrites has the real cosign sign keyless with the real Fulcio,
// Rekor v2 and timestamp authority; our verification reads what it attached, for whom it
// was signed and for nobody else.
func TestInterop_KeylessCosignWrites(t *testing.T) {
	s := sigstoretest.Real(t)
	cosign := newCosigner(t)
	registry := registrytest.Start(t, false)
	image := registry.PushImage("team/app")
	const reviewType = "https://example.com/review/v1"
	predicate := filepath.Join(cosign.home, "review.json")
	token := filepath.Join(cosign.home, "token") // cosign takes it as it is, with no end of line
	for path, content := range map[string]string{predicate: `{"approved":true}`, token: s.Token(t, certified, time.Hour)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), cosign.program, "attest", "--yes", "--allow-http-registry", "--type", reviewType,
		"--predicate", predicate, "--identity-token", token,
		"--signing-config", s.SigningConfig, "--trusted-root", s.TrustedRoot, image.String())
	cmd.Env = append(os.Environ(), "HOME="+cosign.home)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cosign attest: %v\n%s", err, out)
	}
	raw, err := os.ReadFile(s.TrustedRoot)
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := attest.ParseSigstoreRoot(raw)
	if err != nil {
		t.Fatal(err)
	}
	found, err := attest.Fetch(t.Context(), registry.Client(), image, attest.Limits{})
	if err != nil || len(found) != 1 {
		t.Fatalf("%d bundles, %v", len(found), err)
	}
	whom := attest.TrustedIdentity{Issuer: s.URL, Subject: certified, RequireLog: true, RequireTimestamp: true}
	roots := attest.TrustRoots{Sigstore: trusted, Identities: []attest.TrustedIdentity{whom}}
	v, err := found[0].Verify(image.Digest, roots)
	if err != nil {
		t.Fatal(err)
	}
	if v.PredicateType != reviewType || v.Identity != certified || v.Issuer != s.URL || v.LogIndex == nil || v.SignTime.IsZero() {
		t.Errorf("%+v", v)
	}
	roots.Identities[0].Subject = "other@seaworthy.test"
	if _, err := found[0].Verify(image.Digest, roots); attest.Reason(err) != attest.Reason(attest.ErrUntrustedIdentity) {
		t.Errorf("for somebody else: %v", err)
	}
}
