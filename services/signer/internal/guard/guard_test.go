package guard_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/services/signer/internal/guard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("down")

func limits() guard.Limits {
	return guard.Limits{Timeout: time.Second, Attempts: 3, MaxFailures: 2, Cooldown: time.Minute}
}

// service counts its calls and answers with what it is told.
type service struct {
	calls int
	err   error
	hangs bool
}

func (s *service) call(ctx context.Context) error {
	s.calls++
	if s.hangs {
		<-ctx.Done()
		return errors.New("Post: context deadline exceeded, in some words")
	}
	return s.err
}

func TestDeadlineOfEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := guard.New("Rekor", limits(), time.Now), &service{hangs: true}
		start := time.Now()
		err := g.Do(t.Context(), s.call)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "Rekor: no answer within 1s") {
			t.Error(err)
		}
		// Three attempts of a second and two pauses of less than 300 and 600 ms.
		if took := time.Since(start); s.calls != 3 || took < 3*time.Second || took > 4*time.Second {
			t.Errorf("%d calls in %v", s.calls, took)
		}
	})
}

func TestAnswersAreNotFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := guard.New("Fulcio", limits(), time.Now), &service{err: guard.Permanent(errDown)}
		for range 10 {
			if err := g.Do(t.Context(), s.call); !errors.Is(err, errDown) {
				t.Fatal(err)
			}
		}
		if s.calls != 10 {
			t.Errorf("%d calls", s.calls)
		}
		if guard.Permanent(nil) != nil {
			t.Error("nothing became an error")
		}
	})
}

func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limits()
		l.Attempts = 1
		g, s := guard.New("Rekor", l, time.Now), &service{err: errDown}
		for range 2 {
			if err := g.Do(t.Context(), s.call); !errors.Is(err, errDown) {
				t.Fatal(err)
			}
		}
		err := g.Do(t.Context(), s.call)
		if !errors.Is(err, guard.ErrOpen) || errors.Is(err, errDown) || s.calls != 2 {
			t.Fatalf("after %d calls: %v", s.calls, err)
		}
		// Whoever reads a dead letter wants to know what was wrong.
		if want := "Rekor is left alone after too many failures: 2 calls failed, the last one: down"; err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
		// One call sees whether it is back, no other until that is known.
		time.Sleep(time.Minute)
		s.hangs = true
		go func() { _ = g.Do(t.Context(), s.call) }()
		synctest.Wait()
		if err := g.Do(t.Context(), s.call); !errors.Is(err, guard.ErrOpen) || s.calls != 3 {
			t.Fatalf("after %d calls: %v", s.calls, err)
		}
		time.Sleep(2 * time.Second)
		if err := g.Do(t.Context(), s.call); !errors.Is(err, guard.ErrOpen) {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		s.hangs, s.err = false, nil
		for range 3 {
			if err := g.Do(t.Context(), s.call); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestCallerWhoLeavesSaysNothingOfTheService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := guard.New("Rekor", limits(), time.Now), &service{hangs: true}
		for range 5 {
			ctx, cancel := context.WithCancel(t.Context())
			go func() { time.Sleep(time.Millisecond); cancel() }()
			if err := g.Do(ctx, s.call); err == nil || errors.Is(err, guard.ErrOpen) {
				t.Fatal(err)
			}
		}
		if s.calls != 5 {
			t.Errorf("%d calls: a caller who left does not try again", s.calls)
		}
	})
}

func TestRetriesHaveABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limits()
		l.Attempts, l.MaxFailures = 2, 1000
		g, s := guard.New("Rekor", l, time.Now), &service{err: errDown}
		for range 100 {
			_ = g.Do(t.Context(), s.call)
		}
		if s.calls != 110 {
			t.Errorf("%d calls for 100, want ten retries", s.calls)
		}
		// Successes earn new ones, ten for one.
		s.err = nil
		for range 20 {
			_ = g.Do(t.Context(), s.call)
		}
		s.calls, s.err = 0, errDown
		for range 10 {
			_ = g.Do(t.Context(), s.call)
		}
		if s.calls != 11 && s.calls != 12 {
			t.Errorf("%d calls for ten, want two retries", s.calls)
		}
	})
}
