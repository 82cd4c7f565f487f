package evidence_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// countdown counts steps down; the process is dead from the one on that reaches
// zero.
type countdown struct{ left atomic.Int64 }

func from(n int) *countdown {
	c := new(countdown)
	c.left.Store(int64(n))
	return c
}

// dead counts one step.
func (c *countdown) dead() bool { return c.left.Add(-1) < 0 }

// TestWriter_CrashAtEveryRequest: whichever request to the registry is the last
// one of a process, the next process ends with exactly one attestation for each
// claim.
func TestWriter_CrashAtEveryRequest(t *testing.T) {
	eachKind(t, func(t *testing.T, f *fixture) {
		t.Helper()
		steps := f.requests(t)
		for n := range steps {
			ref := f.registry.PushImage("team/app")
			c := from(n)
			f.registry.Fail(func(*http.Request) int {
				if c.dead() {
					return http.StatusInternalServerError
				}
				return 0
			})
			_, err := f.writer(t, f.store).Attach(t.Context(), ref, claims("first"))
			f.registry.Fail(nil)
			// Writers of one tag help each other: it may take fewer requests than before.
			if err == nil && c.left.Load() < 0 {
				t.Errorf("request %d of %d fails and Attach() says nothing", n+1, steps)
			}
			f.check(t, ref, attach(t, f.writer(t, f.store), ref))
		}
	})
}

// requests is how many requests an undisturbed attachment takes.
func (f *fixture) requests(t *testing.T) int {
	t.Helper()
	// The first one brings the config that all share.
	attach(t, f.writer(t, f.store), f.registry.PushImage("team/app"))
	ref := f.registry.PushImage("team/app")
	var n atomic.Int64
	f.registry.Fail(func(*http.Request) int { n.Add(1); return 0 })
	attach(t, f.writer(t, f.store), ref)
	f.registry.Fail(nil)
	return int(n.Load())
}

// mortal is a log whose process dies with one of its calls: before it has an
// effect, or after it.
type mortal struct {
	store.Store
	*countdown
	after bool
	calls atomic.Int64
}

func step[T any](m *mortal, call func() (T, error)) (T, error) {
	var none T
	m.calls.Add(1)
	dead := m.dead()
	if dead && !m.after {
		return none, errCrash
	}
	out, err := call()
	if dead {
		return none, errCrash
	}
	return out, err
}

func (m *mortal) Current(ctx context.Context, l store.Line) (store.Entry, error) {
	return step(m, func() (store.Entry, error) { return m.Store.Current(ctx, l) })
}

func (m *mortal) Known(ctx context.Context, l store.Line) (map[string]bool, error) {
	return step(m, func() (map[string]bool, error) { return m.Store.Known(ctx, l) })
}

func (m *mortal) Begin(ctx context.Context, e []store.Entry, serves func(int, store.Entry) bool) ([]store.Entry, error) {
	return step(m, func() ([]store.Entry, error) { return m.Store.Begin(ctx, e, serves) })
}

func (m *mortal) Finish(ctx context.Context, done []store.Finished, at time.Time) error {
	_, err := step(m, func() (struct{}, error) { return struct{}{}, m.Store.Finish(ctx, done, at) })
	return err
}

// TestWriter_CrashAtEveryCallOfTheLog is the same for the signing log.
func TestWriter_CrashAtEveryCallOfTheLog(t *testing.T) {
	f := newFixture(t, true)
	all := &mortal{Store: f.store, countdown: from(1 << 30)}
	attach(t, f.writer(t, all), f.registry.PushImage("team/app"))
	for n := range int(all.calls.Load()) {
		for _, after := range []bool{false, true} {
			ref := f.registry.PushImage("team/app")
			m := &mortal{Store: f.store, countdown: from(n), after: after}
			if _, err := f.writer(t, m).Attach(t.Context(), ref, claims("first")); err == nil {
				t.Errorf("call %d of %d fails and Attach() says nothing", n+1, all.calls.Load())
			}
			f.check(t, ref, attach(t, f.writer(t, f.store), ref))
		}
	}
}
