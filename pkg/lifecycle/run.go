// Package lifecycle starts, watches and stops the parts of a process, and
// tells the outside whether it is ready.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"
	"time"
)

// Component is one part of a process that runs until it is told to stop.
type Component struct {
	// Name is used in logs and errors.
	Name string
	// Run returns when ctx ends, having cleaned up after itself. Returning
	// earlier, with or without an error, stops the whole process: a part that
	// silently went away is a failure.
	Run func(ctx context.Context) error
}

// ErrStopTimeout is in the error of a component that did not stop in time.
var ErrStopTimeout = errors.New("did not stop in time")

type running struct {
	Component
	cancel context.CancelFunc
	// done is closed after err is set.
	done chan struct{}
	err  error
}

// Run starts the components in order and blocks until ctx ends or one of them
// returns; then it stops them one after the other, the last started first,
// within stopTimeout for all of them together. A component that does not stop
// in time is named in the error and left behind, and the rest are told to stop
// without waiting. Run returns nil after an orderly stop that ctx asked for.
func Run(ctx context.Context, log *slog.Logger, stopTimeout time.Duration, cs ...Component) error {
	ended := make(chan *running, len(cs))
	started := make([]*running, 0, len(cs))
	for _, c := range cs {
		// Detached from ctx, so that its end stops one component at a time.
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		r := &running{Component: c, cancel: cancel, done: make(chan struct{})}
		started = append(started, r)
		go func() {
			r.err = r.Run(own)
			close(r.done)
			ended <- r
		}()
	}
	var first *running
	if len(cs) == 0 {
		<-ctx.Done()
	} else {
		select {
		case <-ctx.Done():
		case first = <-ended:
		}
	}
	var errs []error
	if first != nil {
		errs = append(errs, earlyEnd(first))
		log.ErrorContext(ctx, "component ended, stopping all", slog.String("component", first.Name), slog.Any("error", first.err))
	}
	errs = append(errs, stop(ctx, log, stopTimeout, started, first)...)
	return errors.Join(errs...)
}

func earlyEnd(r *running) error {
	if r.err == nil {
		return fmt.Errorf("component %s ended although nothing told it to", r.Name)
	}
	return fmt.Errorf("component %s: %w", r.Name, r.err)
}

func stop(ctx context.Context, log *slog.Logger, timeout time.Duration, started []*running, first *running) []error {
	var errs []error
	budget := time.NewTimer(timeout)
	defer budget.Stop()
	over := false
	for i := len(started) - 1; i >= 0; i-- {
		r := started[i]
		r.cancel()
		if !over {
			select {
			case <-r.done:
			case <-budget.C:
				over = true
				errs = append(errs, fmt.Errorf("component %s: %w (all had %s together)", r.Name, ErrStopTimeout, timeout))
			}
		}
		select {
		case <-r.done:
			if r != first && r.err != nil && !errors.Is(r.err, context.Canceled) {
				errs = append(errs, fmt.Errorf("component %s: %w", r.Name, r.err))
			}
			log.DebugContext(ctx, "component stopped", slog.String("component", r.Name))
		default:
			log.WarnContext(ctx, "component did not stop in time", slog.String("component", r.Name))
		}
	}
	return errs
}

// WithSignals ends the context at SIGINT or SIGTERM. A second signal ends the
// process the default way, for an operator who will not wait.
func WithSignals(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
