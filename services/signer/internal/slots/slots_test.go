package slots_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/signer/internal/slots"
)

// work is an event that works for a second, waits for a minute and works again.
func work(ctx context.Context, s *slots.Slots, carries int64) error {
	return s.Hold(ctx, "", func(ctx context.Context) error {
		time.Sleep(time.Second)
		slots.Carry(ctx, carries+10)
		slots.Carry(ctx, -10)
		err := slots.Idle(ctx, func() error { time.Sleep(time.Minute); return nil })
		time.Sleep(time.Second)
		return err
	})
}

func TestSlots(t *testing.T) {
	for name, c := range map[string]struct {
		carries int64
		want    time.Duration
	}{
		// Two slots and ten events: five times a second, a minute, and in the end the
		// last ones' second.
		"those who wait lend their slot":         {slots.MaxIdle, 5*time.Second + time.Minute + time.Second},
		"but not those who carry much with them": {slots.MaxIdle + 1, 5 * (time.Minute + 2*time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := slots.New(2)
				begin := time.Now()
				ended := make(chan error)
				for range 10 {
					go func() { ended <- work(t.Context(), s, c.carries) }()
				}
				for range 10 {
					if err := <-ended; err != nil {
						t.Error(err)
					}
				}
				if took := time.Since(begin); took != c.want {
					t.Errorf("took %v, want %v", took, c.want)
				}
			})
		})
	}
}

func TestSlots_Canceled(t *testing.T) {
	s := slots.New(1)
	ctx, cancel := context.WithCancel(t.Context())
	failure := errors.New("what was waited for failed")
	err := s.Hold(ctx, "", func(held context.Context) error {
		err := slots.Idle(held, func() error {
			cancel()
			return failure
		})
		if err := s.Hold(ctx, "", func(context.Context) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("two hold the one slot: %v", err)
		}
		return err
	})
	if !errors.Is(err, failure) {
		t.Errorf("%v", err)
	}
	if err := s.Hold(t.Context(), "", func(context.Context) error { return nil }); err != nil {
		t.Errorf("the slot is not given back: %v", err)
	}
}

func TestWithoutSlot(t *testing.T) {
	slots.Carry(t.Context(), 1)
	called := false
	if err := slots.Idle(t.Context(), func() error { called = true; return nil }); err != nil || !called {
		t.Errorf("called: %v, %v", called, err)
	}
}

// TestOneGroupHoldsHalf: whatever one group wants, others find a slot; one that only
// waits lends that of its group too.
func TestOneGroupHoldsHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slots.New(4)
		release := make(chan struct{})
		var held atomic.Int64
		for range 10 {
			go func() {
				_ = s.Hold(t.Context(), "flood", func(context.Context) error { held.Add(1); <-release; return nil })
			}()
		}
		synctest.Wait()
		if n := held.Load(); n != 2 {
			t.Errorf("one group holds %d of 4 slots", n)
		}
		other := false
		if err := s.Hold(t.Context(), "other", func(context.Context) error { other = true; return nil }); err != nil || !other {
			t.Errorf("the other group: %v", err)
		}
		close(release)
		synctest.Wait()
		if n := held.Load(); n != 10 {
			t.Errorf("%d were held in the end", n)
		}
	})
}
