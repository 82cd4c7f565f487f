package app_test

import (
	"net"
	"testing"
	"time"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
)

// withSigner has the fleet trust what a signer's bundle says, and nothing else.
func (f *fleet) withSigner(s *signer) {
	f.t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(f.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	f.cfg.Trust.Roots, f.cfg.Trust.SignerAddress, f.cfg.Trust.Refresh = nil, listener.Addr().String(), time.Second
	if err := listener.Close(); err != nil {
		f.t.Fatal(err)
	}
	f.serveSigner(f.cfg.Trust.SignerAddress, s)
}

// TestRevokedKeyEndsVerdicts: a verdict that rests on a key ends within seconds of the
// key's revocation, without any other event, and an explanation says so.
func TestRevokedKeyEndsVerdicts(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	s := &signer{key: f.key}
	f.withSigner(s)
	v := f.start()
	image := f.registry.PushImage("team/app", "v1")
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), time.Now())
	f.attested(t.Context(), "attested", image)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Fatalf("before: %v", e)
	}
	passed := v.get(t, image).GetDigest()

	s.revoked.Store(true)
	begin := time.Now()
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_UNKNOWN {
		t.Fatalf("after the revocation: %v", e)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	r, err := v.verdicts.ExplainVerdict(t.Context(), &verifierv1.ExplainVerdictRequest{VerdictDigest: passed})
	if err != nil || !r.GetEqual() || len(r.GetWithdrawnInputs()) == 0 || r.GetWithdrawnInputs()[0].GetKeyId() != f.key.Trusted().ID {
		t.Errorf("explanation of what rested on the key: %v, %v", r.GetWithdrawnInputs(), err)
	}
	h, err := v.verdicts.GetVerdictHistory(t.Context(), &verifierv1.GetVerdictHistoryRequest{Image: message(image)})
	if err != nil || h.GetChanges()[0].GetCause() != verifierv1.VerdictChange_CAUSE_TRUST {
		t.Errorf("history: %v, %v", h, err)
	}

	// A key that is added makes good what it signed before it was known.
	next := evidencetest.NewKey(t)
	f.registry.Attest(next, image, image.Digest, evidencetest.Report(image.Digest), time.Now())
	s.successor.Store(next)
	// Missing evidence is looked for: a look in between finds the report of a key that is
	// not trusted yet, and says so.
	for {
		e := f.next()
		if e.GetState() == eventv1.VerdictReachedEvent_STATE_PASS {
			break
		}
		if e.GetState() != eventv1.VerdictReachedEvent_STATE_UNKNOWN {
			t.Fatalf("after the new key: %v", e)
		}
	}
}

// TestTrustTakenAwayWhileDown: what a restart no longer trusts is judged again at once.
func TestTrustTakenAwayWhileDown(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	v := f.start()
	image := f.registry.PushImage("team/app", "v1")
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), time.Now())
	f.attested(t.Context(), "attested", image)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Fatalf("before: %v", e)
	}
	v.stop()
	// The same key, which may state something else now.
	f.cfg.Trust.Roots[0].States = []string{"https://example.com/review/v1"}
	f.start()
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_UNKNOWN {
		t.Fatalf("after the restart: %v", e)
	}
}

// TestWithdrawnVexIsNotCited: an author is trusted no more whose documents had no effect, so
// that verdicts stay what they are. They are made again from what is trusted, and nobody
// is told.
func TestWithdrawnVexIsNotCited(t *testing.T) {
	t.Parallel()
	f, vendor := newVexFleet(t)
	v := f.start()
	image := f.registry.PushImage("team/app", "v1")
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), time.Now())
	f.registry.Attach(image, image.Digest, attest.PredicateOpenVEX,
		vendor.Sign(image.Digest, attest.PredicateOpenVEX, vexDocument("not_affected", "", time.Now().Add(-time.Hour))))
	f.attested(t.Context(), "attested", image)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Fatalf("before: %v", e)
	}
	passed := v.get(t, image)
	v.stop()
	f.cfg.Vex.Authors = nil
	v = f.start()
	deadline := time.Now().Add(30 * time.Second)
	for v.get(t, image).GetSequence() == passed.GetSequence() {
		if time.Now().After(deadline) {
			t.Fatal("the verdict still cites the document of an author who is trusted no more")
		}
		time.Sleep(50 * time.Millisecond)
	}
	now := v.get(t, image)
	if now.GetState() != verifierv1.Verdict_STATE_PASS || now.GetDigest() == passed.GetDigest() {
		t.Errorf("the verdict is %v", now)
	}
	if r := v.explained(t, now); len(r.GetWithdrawnInputs()) != 0 {
		t.Errorf("it rests on %v", r.GetWithdrawnInputs())
	}
	if r := v.explained(t, passed); len(r.GetWithdrawnInputs()) != 1 || r.GetWithdrawnInputs()[0].GetKeyId() != vendor.Trusted().ID {
		t.Errorf("what it replaced rests on %v", r.GetWithdrawnInputs())
	}
	// The next event is of the next change.
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest, evidencetest.Critical()), time.Now())
	f.attested(t.Context(), "again", image)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL || e.GetPreviousState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Errorf("the next event: %v", e)
	}
}
