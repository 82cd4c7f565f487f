package sqldb

import (
	"context"
	"database/sql"
	"slices"
	"sync"
	"time"
)

const (
	// groupSize is the most transactions that share one commit.
	groupSize = 32
	// groupTimeout bounds a shared transaction, which no single caller can end.
	groupTimeout = 10 * time.Second
)

// Group makes one transaction of small ones that wait for each other. A commit waits
// for the disk, and SQLite has one writer: callers at the same time would wait for as
// many disk writes as they are.
type Group struct {
	db *DB

	mu      sync.Mutex
	waiting []*member
	leading bool
}

// NewGroup returns an empty group.
func NewGroup(db *DB) *Group { return &Group{db: db} }

// member is a transaction of a group.
type member struct {
	ctx  context.Context //nolint:containedctx // it is that of a call, which waits
	fn   func(tx *sql.Tx) error
	done chan error
}

// InTx is that of DB, but fn may share the transaction with others. If one of them
// fails, or the commit does, each runs again in a transaction of its own, so the error of
// one is no other's; fn may thus run a second time after it took effect, where the answer
// to a commit was lost. When ctx ends before fn began, fn does not run.
func (g *Group) InTx(ctx context.Context, fn func(tx *sql.Tx) error) error {
	m := &member{ctx: ctx, fn: fn, done: make(chan error, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, m)
	lead := !g.leading
	g.leading = true
	g.mu.Unlock()
	if lead {
		go g.lead() //nolint:contextcheck // what is shared does not end with one caller
	}
	select {
	case err := <-m.done:
		return err
	case <-ctx.Done():
	}
	if g.leave(m) {
		return ctx.Err()
	}
	return <-m.done
}

// leave takes back what has not begun.
func (g *Group) leave(m *member) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiting, m)
	if i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	return i >= 0
}

// lead runs what waits until nothing does. While it writes, the next ones gather.
func (g *Group) lead() {
	for {
		g.mu.Lock()
		n := min(len(g.waiting), groupSize)
		together := slices.Clone(g.waiting[:n])
		g.waiting = slices.Delete(g.waiting, 0, n)
		g.leading = n > 0
		g.mu.Unlock()
		if n == 0 {
			return
		}
		g.run(together)
	}
}

func (g *Group) run(together []*member) {
	together = slices.DeleteFunc(together, func(m *member) bool {
		err := m.ctx.Err()
		if err != nil {
			m.done <- err
		}
		return err != nil
	})
	if len(together) > 1 && g.share(together) == nil {
		for _, m := range together {
			m.done <- nil
		}
		return
	}
	for _, m := range together {
		m.done <- g.db.InTx(m.ctx, m.fn)
	}
}

func (g *Group) share(together []*member) error {
	ctx, cancel := context.WithTimeout(context.Background(), groupTimeout)
	defer cancel()
	return g.db.InTx(ctx, func(tx *sql.Tx) error {
		for _, m := range together {
			if err := m.fn(tx); err != nil {
				return err
			}
		}
		return nil
	})
}
