package evidence_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/evidence"
)

// TestWriter_Future: what is dated in the future is not signed, and what is signed when
// the clock is right again is in force at once.
func TestWriter_Future(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	ref := f.registry.PushImage("team/app")
	first := f.attachOne(t, ref, finding("old", 0))
	now := f.clock.Add(time.Hour) // of the next writer
	future := finding("of the future", now.Add(attest.ClockSkew+time.Second).Sub(start))
	onlyInside := future
	onlyInside.Time = now
	undated := core.Predicate{Type: core.PredicateSPDX, ContentKey: core.Digest([]byte("spdx")), Time: future.Time, JSON: json.RawMessage(`{}`)}
	for name, p := range map[string]core.Predicate{"its time": future, "inside": onlyInside, "undated": undated} {
		f.clock = now.Add(-time.Hour)
		_, err := f.writer(t, f.store).Attach(t.Context(), ref, []core.Predicate{finding("sound", time.Minute), p})
		if !errors.Is(err, evidence.ErrFuture) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, n := f.newest(ref); got != first || n != 1 {
		t.Errorf("after the refusals %d attestations, newest %s, want only %s", n, got, first)
	}
	f.clock = now.Add(-time.Hour)
	skewed := f.attachOne(t, ref, finding("a little fast", now.Add(attest.ClockSkew).Sub(start)))
	if skewed == first {
		t.Error("what is within the skew was not attached")
	}
	f.clock = now.Add(attest.ClockSkew)
	healed := f.attachOne(t, ref, finding("right again", f.clock.Add(time.Minute).Sub(start)))
	if healed == skewed || healed == first {
		t.Error("the right clock does not heal it")
	}
}
