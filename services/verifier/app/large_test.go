package app_test

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
)

// wantsCycloneDX is a policy that asks for a bill of materials in that format.
const wantsCycloneDX = `apiVersion: seaworthy.dev/v1
kind: Policy
metadata: {name: wants-cyclonedx}
spec:
  match: {repositories: ["*/team/**"]}
  require:
    - predicate_type: ` + attest.PredicateCycloneDX + `
  rules:
    - {name: only, message: no, severity: deny, expression: 'true'}
`

// TestAttestationOverTheLimit has a bill of materials attached that is signed as it should
// be and larger than limits.max_attestation: it alone is no evidence, nothing of it is in
// memory, and only a policy that asks for its type sees that, with the reason.
//
//nolint:paralleltest // others in the same process take memory
func TestAttestationOverTheLimit(t *testing.T) {
	f := newFleet(t)
	v := f.start()
	image := f.registry.PushImage("team/app", "v1")
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), time.Now())
	// In base64 a third more than here.
	large := f.registry.AttachLarge(f.key, image, attest.PredicateCycloneDX, int64(f.cfg.Limits.MaxAttestation))

	stop := watchHeap()
	f.attested(t.Context(), "one", image)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Errorf("nobody asks for it: %v", e)
	}
	if grown := stop(); grown > 32<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	if in := v.wait(t, image).GetPlatforms()[0].GetInputs(); len(in.GetAttestations()) != 2 {
		t.Errorf("the others do not count: %v", in)
	}
	if _, err := v.policies.CreatePolicy(t.Context(), &verifierv1.CreatePolicyRequest{Document: wantsCycloneDX, RequestId: "one"}); err != nil {
		t.Fatal(err)
	}
	e := f.next()
	if e.GetState() == eventv1.VerdictReachedEvent_STATE_PASS || len(e.GetReasons()) != 1 {
		t.Fatalf("a policy asks for it: %v", e)
	}
	for _, want := range []string{"EVIDENCE_INVALID", attest.PredicateCycloneDX, large[:19], "too large"} {
		if !strings.Contains(e.GetReasons()[0], want) {
			t.Errorf("%q is not in %q", want, e.GetReasons()[0])
		}
	}
	t.Log(e.GetReasons()[0])
	// One that fits, by the same key: the large one is not in its way.
	f.registry.Attach(image, image.Digest, attest.PredicateCycloneDX, f.key.Sign(image.Digest, attest.PredicateCycloneDX, map[string]any{"bomFormat": "CycloneDX"}))
	f.attested(t.Context(), "two", image)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Errorf("with one that fits: %v", e)
	}
}

// watchHeap gives by how much the heap has grown at the most until the result is called,
// in bytes.
func watchHeap() (stop func() uint64) {
	inUse := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	runtime.GC()
	before, peak, done := inUse(), atomic.Uint64{}, make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			peak.Store(max(peak.Load(), inUse()))
			select {
			case <-done:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	})
	return func() uint64 {
		close(done)
		wg.Wait()
		return peak.Load() - min(before, peak.Load())
	}
}
