// Package slots bounds how many events are worked on at a time, while more may be
// under way: one that only waits lends its slot, unless it carries much.
package slots

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// MaxIdle is how much an event may carry, in bytes, while it waits without a slot.
const MaxIdle = 4 << 20

// Slots are safe for concurrent use. One group, such as a repository, holds at most half
// of them.
type Slots struct {
	free  *semaphore.Weighted
	share int64

	mu     sync.Mutex
	groups map[string]*group
}

// group is what holds or wants slots for one thing.
type group struct {
	free  *semaphore.Weighted
	users int
}

// New returns n slots.
func New(n int) *Slots {
	return &Slots{free: semaphore.NewWeighted(int64(n)), share: int64(max(1, n/2)), groups: map[string]*group{}}
}

// UnderWay is how many events have to be under way so that n are worked on although
// many wait: at most what a consumer takes.
func UnderWay(n int) int { return min(16*n, maxUnderWay) }

const maxUnderWay = 1000

type slotKey struct{}

// slot is one that is held.
type slot struct {
	of      *Slots
	group   *group
	carried atomic.Int64
}

// Hold waits for a slot of a group, or until ctx ends, and does something with it. Carry
// and Idle find the slot in the context that do is given. Without a name the holder is a
// group of its own.
func (s *Slots) Hold(ctx context.Context, name string, do func(context.Context) error) error {
	g := s.join(name)
	defer s.part(name, g)
	held := &slot{of: s, group: g}
	if err := held.acquire(ctx); err != nil {
		return err
	}
	defer held.release()
	return do(context.WithValue(ctx, slotKey{}, held))
}

func (s *Slots) join(name string) *group {
	if name == "" {
		return &group{free: semaphore.NewWeighted(1)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[name]
	if g == nil {
		g = &group{free: semaphore.NewWeighted(s.share)}
		s.groups[name] = g
	}
	g.users++
	return g
}

func (s *Slots) part(name string, g *group) {
	if name == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.users--; g.users == 0 {
		delete(s.groups, name)
	}
}

// acquire takes the group's share first: who waits for that keeps nothing from others.
func (s *slot) acquire(ctx context.Context) error {
	if err := s.group.free.Acquire(ctx, 1); err != nil {
		return err
	}
	if err := s.of.free.Acquire(ctx, 1); err != nil {
		s.group.free.Release(1)
		return err
	}
	return nil
}

func (s *slot) release() {
	s.of.free.Release(1)
	s.group.free.Release(1)
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
	s.release()
	err := wait()
	// Hold gives it back, so it has to be had again even if ctx has ended.
	return errors.Join(err, s.acquire(context.WithoutCancel(ctx)))
}
