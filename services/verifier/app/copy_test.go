package app_test

import (
	"strings"
	"testing"
	"time"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
)

// TestCopyInAnotherRepository copies an image, as a promotion does. The copy is
// scanned later and has evidence of its own; that takes nothing from the original.
func TestCopyInAnotherRepository(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	v := f.start()
	original := f.registry.PushImage("dev/app", "v1")
	copied := f.registry.Copy(original, "prod/app")
	if copied.Digest != original.Digest {
		t.Fatalf("the copy is %s, not %s", copied.Digest, original.Digest)
	}
	now := time.Now()
	f.registry.Attest(f.key, original, original.Digest, evidencetest.Report(original.Digest), now.Add(-time.Hour))
	f.registry.Attest(f.key, copied, copied.Digest, evidencetest.Report(copied.Digest), now)
	f.attested(t.Context(), "copied", copied)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Fatalf("event of the copy: %v", e)
	}
	f.attested(t.Context(), "original", original)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS || !strings.HasPrefix(e.GetImage().GetRepository(), "dev/") {
		t.Errorf("event of the original: %v", e)
	}
	if got := v.get(t, original); got.GetState() != verifierv1.Verdict_STATE_PASS {
		t.Errorf("verdict of the original: %v", got)
	}
}
