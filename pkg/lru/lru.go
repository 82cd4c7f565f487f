// Package lru keeps values in bounded memory: the least recently used go first.
package lru

import (
	"container/list"
	"sync"
)

// Cache is bounded by the sizes that its users state. It is safe for concurrent
// use.
type Cache[K comparable, V any] struct {
	mu      sync.Mutex
	limit   int64
	size    int64
	order   *list.List
	byKey   map[K]*list.Element
	evicted func(K)
}

type entry[K comparable, V any] struct {
	key   K
	value V
	size  int64
}

// New returns a cache of at most limit bytes. evicted, which may be nil, is told of
// every key that left; it must not call the cache.
func New[K comparable, V any](limit int64, evicted func(K)) *Cache[K, V] {
	return &Cache[K, V]{limit: limit, order: list.New(), byKey: map[K]*list.Element{}, evicted: evicted}
}

// Get returns the value of a key.
func (c *Cache[K, V]) Get(k K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[k]
	if !ok {
		var none V
		return none, false
	}
	c.order.MoveToFront(e)
	return of[K, V](e).value, true
}

// GetAll tells found of the values of keys that are there, by their place in keys; it
// must not call the cache.
func (c *Cache[K, V]) GetAll(keys []K, found func(i int, v V)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range keys {
		if e, ok := c.byKey[keys[i]]; ok {
			c.order.MoveToFront(e)
			found(i, of[K, V](e).value)
		}
	}
}

// Put keeps a value of a size in bytes, in place of the one before. One that is
// larger than the whole cache is not kept.
func (c *Cache[K, V]) Put(k K, v V, size int64) (kept bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[k]; ok {
		c.remove(e)
	}
	if size > c.limit {
		return false
	}
	c.byKey[k] = c.order.PushFront(&entry[K, V]{key: k, value: v, size: size})
	c.size += size
	for c.size > c.limit {
		c.remove(c.order.Back())
	}
	return true
}

// Drop takes a key out.
func (c *Cache[K, V]) Drop(k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[k]; ok {
		c.remove(e)
	}
}

// Len is the number of values.
func (c *Cache[K, V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byKey)
}

// Size is the sum of the sizes of the values, in bytes.
func (c *Cache[K, V]) Size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}

// remove needs c.mu.
func (c *Cache[K, V]) remove(e *list.Element) {
	v := of[K, V](e)
	c.order.Remove(e)
	delete(c.byKey, v.key)
	c.size -= v.size
	if c.evicted != nil {
		c.evicted(v.key)
	}
}

func of[K comparable, V any](e *list.Element) *entry[K, V] {
	v, _ := e.Value.(*entry[K, V])
	return v
}
