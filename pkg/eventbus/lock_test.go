package eventbus_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
)

// lockers are two processes that share locks.
func lockers(t *testing.T) (one, two *eventbus.Bus, e *env) {
	t.Helper()
	e = newEnv(t)
	e.provision()
	one, two = e.connect(e.options("worker")), e.connect(e.options("worker"))
	for _, b := range []*eventbus.Bus{one, two} {
		if err := b.Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return one, two, e
}

func TestLock_OneAtATime(t *testing.T) {
	one, two, _ := lockers(t)
	var inside, entered atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 5 {
				unlock, err := []*eventbus.Bus{one, two}[i%2].Lock(t.Context(), "TURNS", "key")
				if err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two hold the lock")
				}
				entered.Add(1)
				inside.Add(-1)
				unlock()
			}
		})
	}
	wg.Wait()
	if n := entered.Load(); n != 40 {
		t.Errorf("%d turns, want 40", n)
	}
}

func TestLock_OutlivesItsLeaseWhileHeld(t *testing.T) {
	one, two, _ := lockers(t)
	unlock, err := one.Lock(t.Context(), "TURNS", "key")
	if err != nil {
		t.Fatal(err)
	}
	free, err := two.Lock(t.Context(), "TURNS", "another key")
	if err != nil {
		t.Fatalf("another key is held too: %v", err)
	}
	free()
	ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond) // two and a half leases
	defer cancel()
	if _, err := two.Lock(ctx, "TURNS", "key"); !errors.Is(err, eventbus.ErrUnavailable) {
		t.Errorf("Lock() of what is held = %v, want ErrUnavailable", err)
	}
	unlock()
	again, err := two.Lock(t.Context(), "TURNS", "key")
	if err != nil {
		t.Fatal(err)
	}
	again()
}

// TestLock_EndsWithItsHolder: who dies with a lock holds it no longer than a lease.
func TestLock_EndsWithItsHolder(t *testing.T) {
	one, two, _ := lockers(t)
	unlock, err := one.Lock(t.Context(), "TURNS", "key")
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	again, err := two.Lock(ctx, "TURNS", "key")
	if err != nil {
		t.Fatal(err)
	}
	unlock() // of the dead: it must not take the lock from the living
	short, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	if _, err := two.Lock(short, "TURNS", "key"); err == nil {
		t.Error("the lock was lost")
	}
	again()
}

func TestLock_Refused(t *testing.T) {
	one, _, e := lockers(t)
	if _, err := one.Lock(t.Context(), "OTHER", "key"); !errors.Is(err, eventbus.ErrNotAllowed) {
		t.Errorf("unknown locks: %v", err)
	}
	if _, err := e.connect(e.options("observer")).Lock(t.Context(), "TURNS", "key"); !errors.Is(err, eventbus.ErrNotAllowed) {
		t.Errorf("locks of another service: %v", err)
	}
}
