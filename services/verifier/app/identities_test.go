package app_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/app"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
)

// TestIdentityRequires has an author speak by certificates: what the configuration asks
// of them must be there.
func TestIdentityRequires(t *testing.T) {
	t.Parallel()
	const issuer, subject = "https://ci.example", "vendor@seaworthy.test"
	for name, tc := range map[string]struct {
		require func(*app.IdentityConfig)
		want    eventv1.VerdictReachedEvent_State
	}{
		"nothing":     {func(*app.IdentityConfig) {}, eventv1.VerdictReachedEvent_STATE_PASS},
		"log":         {func(c *app.IdentityConfig) { c.RequireLog = true }, eventv1.VerdictReachedEvent_STATE_PASS},
		"a timestamp": {func(c *app.IdentityConfig) { c.RequireTimestamp = true }, eventv1.VerdictReachedEvent_STATE_FAIL},
		"an SCT":      {func(c *app.IdentityConfig) { c.RequireSCT = true }, eventv1.VerdictReachedEvent_STATE_FAIL},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, sigstore := newFleet(t), evidencetest.NewSigstore(t)
			f.cfg.Trust.SigstoreRoot = filepath.Join(t.TempDir(), "trusted_root.json")
			if err := os.WriteFile(f.cfg.Trust.SigstoreRoot, sigstore.Root(), 0o600); err != nil {
				t.Fatal(err)
			}
			vendor := app.IdentityConfig{Issuer: issuer, Subject: subject}
			tc.require(&vendor)
			f.cfg.Vex.Authors = []app.VexAuthorConfig{{Name: "vendor", Identities: []app.IdentityConfig{vendor}}}
			f.start()
			image := f.registry.PushImage("team/app", "v1")
			now := time.Now()
			f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest, evidencetest.Critical()), now)
			// A certificate, a log entry, and nothing else.
			f.registry.Attach(image, image.Digest, attest.PredicateOpenVEX,
				sigstore.Sign(subject, issuer, image.Digest, attest.PredicateOpenVEX, vexDocument("not_affected", "", now.Add(-time.Second)), now.Add(2*time.Minute)))
			f.attested(t.Context(), "one", image)
			if e := f.next(); e.GetState() != tc.want {
				t.Errorf("verdict: %v", e)
			}
		})
	}
}
