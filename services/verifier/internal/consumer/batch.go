package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

// batch judges images, each by itself: first those that recorded evidence is enough for,
// one after the other, then the others, a few at a time, for whom the registry is read.
// failed is told of each that could not be judged; the batch ends if it cannot cope.
func (r *Reevaluator) batch(ctx context.Context, images []imageref.Ref, cause store.Cause, failed func(context.Context, imageref.Ref, error) error) error {
	mine, err := r.lease(ctx)
	if err != nil {
		return err
	}
	if !mine {
		return errors.New("another replica has taken over")
	}
	// The work may take long, and a change of trust does not wait for its end.
	if err := r.SyncTrust(ctx); err != nil {
		return err
	}
	latest, err := r.Evaluator.Recorder.Store.Lookup(ctx, images, time.Time{})
	if err != nil {
		return err
	}
	now, err := r.ready(ctx, latest)
	if err != nil {
		return err
	}
	var rest []int
	for i, image := range images {
		err := r.image(ctx, image, now[i], cause, recordedOnly)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errRegistryNeeded):
			rest = append(rest, i)
		default:
			if err := failed(ctx, image, err); err != nil {
				return err
			}
		}
	}
	if len(rest) == 0 {
		return nil
	}
	defer r.holdLease(ctx)()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, i := range rest {
		g.Go(func() error {
			if err := r.fromRegistry(gctx, images[i], now[i], cause); err != nil && gctx.Err() == nil {
				return failed(gctx, images[i], err)
			}
			return nil
		})
	}
	err = g.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// fromRegistry judges an image for which the registry is read, within a budget of time.
func (r *Reevaluator) fromRegistry(ctx context.Context, image imageref.Ref, now subject, cause store.Cause) error {
	if err := r.hosts.ask(image.Registry, r.Evaluator.Now()); err != nil {
		return err
	}
	within, cancel := context.WithTimeoutCause(ctx, imageBudget, errBudget)
	defer cancel()
	err := r.image(within, image, now, cause, alsoRegistry)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", errBudget, err)
	}
	r.hosts.answered(image.Registry, err != nil && (errors.Is(err, errBudget) || registry.Temporary(err)), r.Evaluator.Now())
	return err
}

// holdLease keeps the lease until the function that it returns is called.
func (r *Reevaluator) holdLease(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(leaseFor / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if _, err := r.lease(ctx); err != nil && ctx.Err() == nil {
					r.Evaluator.Recorder.log.WarnContext(ctx, "lease not renewed", "error", err)
				}
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}
