// Package warm keeps answers about images ready, and keeps no answer longer than it
// is true.
//
// Every verdict has a number, in the order of the commits and without gaps, whichever
// replica stored it. The cache reads on after the last number that it has seen and
// drops what it knows of the images that changed. It answers only while that reading
// is younger than MaxStaleness: a replica that cannot see changes asks the database
// for every answer, and fails with it.
package warm

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/lru"
)

const (
	// MaxStaleness is how much older than the database an answer can be. Only what
	// other replicas stored can be missing in it.
	MaxStaleness = time.Second
	// lookEvery is the time between looks for changes.
	lookEvery = 250 * time.Millisecond
	// lookBatch is the number of changes read at once.
	lookBatch = 1000
	// overhead is the memory of an entry beside its body and its key, in bytes.
	overhead = 400
)

// Key names an answer.
type Key struct {
	Registry, Repository, Digest string
	// View is how much of it was asked for.
	View int32
	// Environment that asked; empty for all policies.
	Environment string
}

// Answer is an encoded answer.
type Answer struct {
	Body []byte
	// Until is when it is no longer true although nothing changes; zero is never.
	Until time.Time
}

// Source tells what has changed; store.Store is one.
type Source interface {
	LastSequence(ctx context.Context) (int64, error)
	ChangedDigests(ctx context.Context, after int64, limit int) (digests []string, last int64, err error)
}

// Options make a Cache.
type Options struct {
	Source Source
	// Limit of the memory, in bytes; 0 keeps nothing.
	Limit int64
	Now   func() time.Time
	// Changed returns a channel that is closed when this process stored a verdict.
	Changed func() <-chan struct{}
	Log     *slog.Logger
}

// Cache keeps answers. It is safe for concurrent use.
type Cache struct {
	o       Options
	answers *lru.Cache[Key, Answer]

	mu sync.RWMutex
	// cursor is the last change seen; seen is when the look began that found no more.
	cursor int64
	seen   time.Time
	// keys are the kept ones by digest.
	keys map[string]map[Key]struct{}
	// loads are at work; what changes meanwhile is not kept.
	loads map[*load]struct{}
}

type load struct {
	digests map[string]bool
	changed map[string]bool
}

// New returns a cache that keeps nothing until Run has seen where the changes are.
func New(o Options) *Cache {
	c := &Cache{o: o, keys: map[string]map[Key]struct{}{}, loads: map[*load]struct{}{}}
	c.answers = lru.New[Key, Answer](o.Limit, c.left)
	return c
}

// left is told by answers, under c.mu, that a key is kept no more.
func (c *Cache) left(k Key) {
	delete(c.keys[k.Digest], k)
	if len(c.keys[k.Digest]) == 0 {
		delete(c.keys, k.Digest)
	}
}

// Get tells found of the answers that are kept to keys, by their place in keys, and have
// seen the change of a sequence and all before. found must not call the cache.
func (c *Cache) Get(keys []Key, sequence int64, found func(i int, body []byte)) {
	now := c.o.Now()
	c.mu.RLock()
	follows, behind := c.follows(now), c.cursor < sequence
	c.mu.RUnlock()
	if behind {
		c.forgetKeys(keys)
	}
	if behind || !follows {
		return
	}
	c.answers.GetAll(keys, func(i int, a Answer) {
		if a.Until.IsZero() || now.Before(a.Until) {
			found(i, a.Body)
		}
	})
}

// forgetKeys drops all answers about the images of keys. Somebody knows of a change that
// the cache has not seen: no other answer about the image may be older than the one that is
// read for them.
func (c *Cache) forgetKeys(keys []Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range keys {
		c.forget([]string{k.Digest})
	}
}

// follows needs c.mu.
func (c *Cache) follows(now time.Time) bool {
	return !c.seen.IsZero() && now.Sub(c.seen) <= MaxStaleness
}

// Load reads answers and keeps them, except for those of images that change while
// it reads.
func (c *Cache) Load(ctx context.Context, keys []Key, read func(context.Context, []Key) ([]Answer, error)) ([]Answer, error) {
	l := &load{digests: make(map[string]bool, len(keys)), changed: map[string]bool{}}
	for _, k := range keys {
		l.digests[k.Digest] = true
	}
	c.mu.Lock()
	c.loads[l] = struct{}{}
	// Without a cursor nothing would ever drop what is kept now.
	keep := !c.seen.IsZero()
	c.mu.Unlock()
	answers, err := read(ctx, keys)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.loads, l)
	if err != nil || !keep {
		return answers, err
	}
	for i, k := range keys {
		if !l.changed[k.Digest] {
			c.keep(k, answers[i])
		}
	}
	return answers, nil
}

// keep needs c.mu.
func (c *Cache) keep(k Key, a Answer) {
	// The key may be part of a whole request, which is not to stay with it.
	k.Registry, k.Repository, k.Digest, k.Environment = strings.Clone(k.Registry), strings.Clone(k.Repository), strings.Clone(k.Digest), strings.Clone(k.Environment)
	size := overhead + int64(len(a.Body)+len(k.Registry)+len(k.Repository)+len(k.Digest))
	if !c.answers.Put(k, a, size) {
		return
	}
	if c.keys[k.Digest] == nil {
		c.keys[k.Digest] = map[Key]struct{}{}
	}
	c.keys[k.Digest][k] = struct{}{}
}

// Forget drops all answers about images, because something about them is stored.
func (c *Cache) Forget(digests ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(digests)
}

// forget needs c.mu.
func (c *Cache) forget(digests []string) {
	for _, d := range digests {
		for k := range c.keys[d] {
			c.answers.Drop(k)
		}
		for l := range c.loads {
			if l.digests[d] {
				l.changed[d] = true
			}
		}
	}
}

// Len is the number of answers kept.
func (c *Cache) Len() int { return c.answers.Len() }

// Size is the memory of the answers kept, in bytes.
func (c *Cache) Size() int64 { return c.answers.Size() }

// Run follows the changes until ctx ends.
func (c *Cache) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	failing := false
	for {
		changed := c.o.Changed()
		err := c.look(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			c.o.Log.WarnContext(ctx, "verdict changes not received; reading every answer from the database", "error", err)
		}
		failing = err != nil
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// CatchUp drops what changed until now: no answer that is given after it is older. It is
// for whoever has just learned from the database that something has changed.
func (c *Cache) CatchUp(ctx context.Context) error { return c.look(ctx) }

// look drops what changed since the last look.
func (c *Cache) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, MaxStaleness)
	defer cancel()
	c.mu.RLock()
	cursor, first := c.cursor, c.seen.IsZero()
	c.mu.RUnlock()
	if first {
		began := c.o.Now()
		last, err := c.o.Source.LastSequence(ctx)
		if err != nil {
			return err
		}
		c.saw(nil, last, began)
		return nil
	}
	for {
		began := c.o.Now()
		digests, last, err := c.o.Source.ChangedDigests(ctx, cursor, lookBatch)
		if err != nil {
			return err
		}
		if len(digests) < lookBatch {
			c.saw(digests, last, began)
			return nil
		}
		c.saw(digests, last, time.Time{})
		cursor = last
	}
}

// saw notes a look; a zero time says that there is more to see.
func (c *Cache) saw(digests []string, last int64, began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(digests)
	// Another look may have seen more.
	c.cursor = max(c.cursor, last)
	if !began.IsZero() {
		c.seen = began
	}
}
