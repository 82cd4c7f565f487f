// Package guard stands before a service that others run: it gives every call a
// deadline, tries again as long as its budget for that lasts, and stops asking a
// service that does not answer, so that nobody who waits for it waits long.
package guard

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// ErrOpen says that the service failed so often that it is left alone for a
// while. Trying again later may help.
var ErrOpen = errors.New("is left alone after too many failures")

// Limits of one service.
type Limits struct {
	// Timeout is the deadline of one attempt; 0 leaves it to the caller.
	Timeout time.Duration `yaml:"timeout"`
	// Attempts is how often a call is tried, at least 1.
	Attempts int `yaml:"attempts"`
	// MaxFailures is how many calls in a row fail before the service is left alone.
	MaxFailures int `yaml:"max_failures"`
	// Cooldown is for how long that is; then one call is let through.
	Cooldown time.Duration `yaml:"cooldown"`
}

// The budget of retries: it starts full, each retry takes one, each success gives
// back a tenth. A service that answers most of the time thus gets its retries, one
// that is down gets at most that many more calls.
const (
	budgetSize   = 10.0
	budgetReturn = 0.1
	firstPause   = 200 * time.Millisecond
)

// permanent is an answer of the service, and not a failure to answer.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks an error that another attempt does not cure and that says
// nothing against the service: it answered.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// Guard is safe for concurrent use.
type Guard struct {
	name   string
	limits Limits
	now    func() time.Time

	mu       sync.Mutex
	failures int
	// last is the failure that came last.
	last    error
	until   time.Time
	probing bool
	budget  float64
}

// New guards the service that errors call by name.
func New(name string, l Limits, now func() time.Time) *Guard {
	return &Guard{name: name, limits: l, now: now, budget: budgetSize}
}

// Do calls call, with a deadline for each attempt. Errors carry the service's name;
// those of call are wrapped, a deadline is context.DeadlineExceeded.
func (g *Guard) Do(ctx context.Context, call func(context.Context) error) error {
	if err := g.enter(); err != nil {
		return err
	}
	var err error
	for attempt := 1; ; attempt++ {
		err = g.once(ctx, call)
		if attempt >= g.limits.Attempts || !again(ctx, err) || !g.spend() {
			break
		}
		if !pause(ctx, firstPause<<(attempt-1)) {
			break
		}
	}
	g.leave(ctx, err)
	if err != nil {
		return fmt.Errorf("%s: %w", g.name, err)
	}
	return nil
}

func (g *Guard) once(ctx context.Context, call func(context.Context) error) error {
	if g.limits.Timeout == 0 {
		return call(ctx)
	}
	attempt, cancel := context.WithTimeout(ctx, g.limits.Timeout)
	defer cancel()
	err := call(attempt)
	if err != nil && attempt.Err() != nil && ctx.Err() == nil {
		// Clients word this in many ways.
		return fmt.Errorf("no answer within %v: %w", g.limits.Timeout, context.DeadlineExceeded)
	}
	return err
}

func again(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() == nil && !errors.As(err, new(permanent))
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d/2 + rand.N(d)) //nolint:gosec // spreads load, guards nothing
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// enter refuses a call while the service is left alone; of those that come after
// that one is let through to see.
func (g *Guard) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failures < g.limits.MaxFailures {
		return nil
	}
	if g.probing || g.now().Before(g.until) {
		return fmt.Errorf("%s %w: %d calls failed, the last one: %v", g.name, ErrOpen, g.failures, g.last) //nolint:errorlint // this call did not fail so
	}
	g.probing = true
	return nil
}

func (g *Guard) spend() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.budget < 1 {
		return false
	}
	g.budget--
	return true
}

func (g *Guard) leave(ctx context.Context, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.probing = false
	switch {
	case err == nil:
		g.failures = 0
		g.budget = min(budgetSize, g.budget+budgetReturn)
	case errors.As(err, new(permanent)):
		g.failures = 0
	case errors.Is(context.Cause(ctx), context.Canceled):
		// The caller went away: nobody knows about the service.
	default:
		g.failures++
		g.last = err
		g.until = g.now().Add(g.limits.Cooldown)
	}
}
