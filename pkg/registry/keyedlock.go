package registry

import (
	"context"
	"sync"
)

// keyedLock is one lock per key; keys nobody uses take no memory.
type keyedLock struct {
	mu    sync.Mutex
	locks map[string]*lockEntry
}

type lockEntry struct {
	held  chan struct{}
	users int
}

func newKeyedLock() *keyedLock { return &keyedLock{locks: map[string]*lockEntry{}} }

// lock waits for the key until ctx ends. The caller calls unlock once.
func (k *keyedLock) lock(ctx context.Context, key string) (unlock func(), err error) {
	k.mu.Lock()
	e, ok := k.locks[key]
	if !ok {
		e = &lockEntry{held: make(chan struct{}, 1)}
		k.locks[key] = e
	}
	e.users++
	k.mu.Unlock()
	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if e.users--; e.users == 0 {
			delete(k.locks, key)
		}
	}
	select {
	case e.held <- struct{}{}:
		return func() { <-e.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}
