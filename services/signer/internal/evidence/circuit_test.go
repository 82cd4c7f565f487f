package evidence_test

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/evidence"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/guard"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/identity"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/registrytest"
)

func TestWriter_LeavesARegistryAlone(t *testing.T) {
	f := newFixture(t, true)
	ref := f.registry.PushImage("team/app")
	now := f.clock
	w, err := evidence.New(f.store, f.registry.Client(), []identity.Identity{identity.NewKeyed("", f, nil)}, maxAge,
		obs.Discard("signer"), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	w.LeaveAlone(2, time.Minute)
	var asked atomic.Int64
	answer := func(fault registrytest.Fault) {
		f.registry.Fail(func(r *http.Request) int {
			asked.Add(1)
			return fault(r)
		})
	}
	attempt := func() error {
		_, err := w.Attach(t.Context(), ref, claims("first"))
		return err
	}
	// A refusal is an answer.
	answer(registrytest.DenyWrites(http.StatusForbidden))
	for range 3 {
		if err := attempt(); !errors.Is(err, registry.ErrUnauthorized) {
			t.Fatal(err)
		}
	}
	answer(registrytest.Down)
	for range 2 {
		if err := attempt(); !errors.Is(err, registry.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	before := asked.Load()
	if err := attempt(); !errors.Is(err, guard.ErrOpen) || asked.Load() != before {
		t.Errorf("it was asked again: %v", err)
	}
	f.registry.Fail(nil)
	now = now.Add(2 * time.Minute)
	if err := attempt(); err != nil {
		t.Fatal(err)
	}
	if n := len(f.registry.Attestations(ref, f.roots)); n != 3 {
		t.Errorf("%d attestations", n)
	}
}
