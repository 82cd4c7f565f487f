package evidence

import (
	"container/list"
	"sync"
)

// cache keeps the results of verification, the least recently used go first. It
// is bounded by the sizes that its users state.
type cache struct {
	mu    sync.Mutex
	limit int64
	size  int64
	order *list.List
	byKey map[cacheKey]*list.Element
}

// cacheKey names one verification: which bundle, about which subject, against
// which roots.
type cacheKey struct {
	manifest, subject string
	roots             uint64
}

type cacheEntry struct {
	key   cacheKey
	value *finding
	size  int64
}

func newCache(limit int64) *cache {
	return &cache{limit: limit, order: list.New(), byKey: map[cacheKey]*list.Element{}}
}

func (c *cache) get(k cacheKey) (*finding, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[k]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return entry(e).value, true
}

func (c *cache) put(k cacheKey, v *finding, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[k]; ok {
		c.remove(e)
	}
	if size > c.limit {
		return
	}
	c.byKey[k] = c.order.PushFront(cacheEntry{key: k, value: v, size: size})
	c.size += size
	for c.size > c.limit {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(e *list.Element) {
	v := entry(e)
	c.order.Remove(e)
	delete(c.byKey, v.key)
	c.size -= v.size
}

func entry(e *list.Element) cacheEntry {
	v, _ := e.Value.(cacheEntry)
	return v
}
