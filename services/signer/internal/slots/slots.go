// Package slots bounds how many events are worked on at a time, while more may be
// under way: one that only waits lends its slot, unless it carries much.
package slots

import (
	"context"
	"errors"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// MaxIdle is how much an event may carry, in bytes, while it waits without a slot.
const MaxIdle = 4 << 20

// Slots are safe for concurrent use.
type Slots struct{ free *semaphore.Weighted }

// New returns n slots.
func New(n int) *Slots { return &Slots{free: semaphore.NewWeighted(int64(n))} }

// UnderWay is how many events have to be under way so that n are worked on although
// many wait: at most what a consumer takes.
func UnderWay(n int) int { return min(16*n, maxUnderWay) }

const maxUnderWay = 1000

type slotKey struct{}

// slot is one that is held.
type slot struct {
	of      *Slots
	carried atomic.Int64
}

// Hold waits for a slot, or until ctx ends, and does something with it. Carry and Idle
// find the slot in the context that do is given.
func (s *Slots) Hold(ctx context.Context, do func(context.Context) error) error {
	if err := s.free.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.free.Release(1)
	return do(context.WithValue(ctx, slotKey{}, &slot{of: s}))
}

// Carry says that the holder of the slot in ctx has so many bytes more in memory or in
// temporary files; of fewer if negative. Without a slot it does nothing.
func Carry(ctx context.Context, bytes int64) {
	if s, ok := ctx.Value(slotKey{}).(*slot); ok {
		s.carried.Add(bytes)
	}
}

// Idle waits, by calling wait, and lends the slot in ctx meanwhile if there is one and
// it carries no more than MaxIdle. The holder must do nothing else at the same time.
func Idle(ctx context.Context, wait func() error) error {
	s, ok := ctx.Value(slotKey{}).(*slot)
	if !ok || s.carried.Load() > MaxIdle {
		return wait()
	}
	s.of.free.Release(1)
	err := wait()
	// Hold gives it back, so it has to be had again even if ctx has ended.
	return errors.Join(err, s.of.free.Acquire(context.WithoutCancel(ctx), 1))
}
