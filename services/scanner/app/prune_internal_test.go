package app

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

type pruned struct {
	before []time.Time
	sets   int
	err    error
}

func (p *pruned) PruneLayers(_ context.Context, set string, before time.Time) (int64, error) {
	if set != "7" {
		return 0, errors.New("the set of extractors is another")
	}
	p.before = append(p.before, before)
	return 1, p.err
}

func (p *pruned) PruneIndex(_ context.Context, n int) (int64, error) {
	p.sets++
	return int64(n * (p.sets % 2)), nil
}

// TestPruner: it prunes at once and each interval, and an error does not end it.
func TestPruner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &pruned{err: errors.New("database is down")}
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		p := &pruner{store: s, log: slog.New(slog.DiscardHandler), now: time.Now, retention: 24 * time.Hour, set: "7", interval: time.Hour}
		done := make(chan error, 1)
		go func() { done <- p.run(ctx) }()
		time.Sleep(150 * time.Minute)
		cancel()
		if err := <-done; err != nil || len(s.before) != 3 || !s.before[2].Equal(start.Add(-22*time.Hour)) || s.sets != 6 {
			t.Errorf("%v, %d, %v", s.before, s.sets, err)
		}
	})
}
