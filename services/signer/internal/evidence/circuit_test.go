package evidence_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
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
	w.EnableCircuitBreaker(2, time.Minute)
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

// guarded signs with the help of a service that is left alone when it fails. The call
// that looks whether it is back takes until another one was turned away.
type guarded struct {
	identity.Identity
	service *guard.Guard
	away    *atomic.Bool
	refused chan struct{}
	refuse  func() // closes refused
}

var errAway = errors.New("the service is away")

func (i guarded) Sign(ctx context.Context, p attest.Payload) (out identity.Signed, err error) {
	err = i.service.Do(ctx, func(ctx context.Context) error {
		if i.away.Load() {
			return errAway
		}
		<-i.refused
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond): // what ends the call comes at once
		}
		out, err = i.Identity.Sign(ctx, p)
		return err
	})
	if errors.Is(err, guard.ErrOpen) && !i.away.Load() {
		i.refuse()
	}
	return out, err
}

// TestWriter_FindsAServiceBack: claims that a circuit turns away do not end the one that
// it lets through, so it closes again.
func TestWriter_FindsAServiceBack(t *testing.T) {
	f := newFixture(t, true)
	ref := f.registry.PushImage("team/app")
	var elapsed atomic.Int64
	now := func() time.Time { return f.clock.Add(time.Duration(elapsed.Load())) }
	refused := make(chan struct{})
	by := guarded{
		Identity: identity.NewKeyed("", f, nil), away: new(atomic.Bool), refused: refused, refuse: sync.OnceFunc(func() { close(refused) }),
		service: guard.New("service", guard.Limits{Attempts: 1, MaxFailures: 1, Cooldown: time.Minute}, now),
	}
	w, err := evidence.New(f.store, f.registry.Client(), []identity.Identity{by}, maxAge, obs.Discard("signer"), now)
	if err != nil {
		t.Fatal(err)
	}
	by.away.Store(true)
	if _, err := w.Attach(t.Context(), ref, claims("first")[:1]); !errors.Is(err, errAway) {
		t.Fatal(err)
	}
	by.away.Store(false)
	elapsed.Store(int64(2 * time.Minute))
	if _, err := w.Attach(t.Context(), ref, claims("first")[:2]); !errors.Is(err, guard.ErrOpen) {
		t.Fatalf("nobody was turned away: %v", err)
	}
	got, err := w.Attach(t.Context(), ref, claims("first"))
	if err != nil {
		t.Fatalf("the service is back: %v", err)
	}
	f.check(t, ref, got)
}
