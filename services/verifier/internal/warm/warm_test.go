package warm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// changes is a source whose changes a test makes.
type changes struct {
	mu      sync.Mutex
	digests []string
	err     error
}

func (c *changes) add(digests ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.digests = append(c.digests, digests...)
}

func (c *changes) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *changes) LastSequence(context.Context) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(len(c.digests)), c.err
}

func (c *changes) ChangedDigests(_ context.Context, after int64, limit int) ([]string, int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, 0, c.err
	}
	rest := c.digests[after:]
	rest = rest[:min(len(rest), limit)]
	return append([]string(nil), rest...), after + int64(len(rest)), nil
}

func key(digest string) Key { return Key{Registry: "r", Repository: "p", Digest: digest} }

// running starts a cache over a source; stop ends it.
func running(t *testing.T, c *changes, limit int64) *Cache {
	t.Helper()
	cache := New(Options{
		Source: c, Limit: limit, Now: time.Now, Changed: func() <-chan struct{} { return nil }, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = cache.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	synctest.Wait()
	return cache
}

func put(t *testing.T, c *Cache, k Key, body string) {
	t.Helper()
	got, err := c.Load(t.Context(), []Key{k}, func(context.Context, []Key) ([]Answer, error) { return []Answer{{Body: []byte(body)}}, nil })
	if err != nil || string(got[0].Body) != body {
		t.Fatalf("%q, %v", got, err)
	}
}

func has(c *Cache, digest string) bool { return hasSeen(c, digest, 0) }

func hasSeen(c *Cache, digest string, sequence int64) bool {
	ok := false
	c.Get([]Key{key(digest)}, sequence, func(int, []byte) { ok = true })
	return ok
}

// TestCatchUp sees a change between two looks, for whoever knows that there may be one.
func TestCatchUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &changes{}
		cache := running(t, source, 1<<20)
		put(t, cache, key("a"), "old")
		put(t, cache, key("b"), "old")
		source.add("a")
		if !has(cache, "a") {
			t.Fatal("the change was seen without a look")
		}
		if err := cache.CatchUp(t.Context()); err != nil || has(cache, "a") || !has(cache, "b") || !hasSeen(cache, "b", 1) {
			t.Errorf("%v, a is kept: %t, b: %t", err, has(cache, "a"), has(cache, "b"))
		}
		source.fail(errors.New("no database"))
		if err := cache.CatchUp(t.Context()); err == nil {
			t.Error("it caught up without a database")
		}
	})
}

func TestFollowsChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &changes{digests: []string{"old"}}
		c := running(t, source, 1<<20)
		for _, d := range []string{"a", "b"} {
			put(t, c, key(d), d)
		}
		if !has(c, "a") || !has(c, "b") {
			t.Fatal("nothing is kept")
		}
		if hasSeen(c, "a", 2) {
			t.Error("answers with a change that it has not seen")
		}
		source.add("a")
		time.Sleep(lookEvery)
		synctest.Wait()
		if has(c, "a") || !has(c, "b") {
			t.Error("a changed, b did not")
		}
		if !hasSeen(c, "b", 2) {
			t.Error("does not answer with a change that it has seen")
		}
		// More changes than one look reads.
		many := make([]string, 3*lookBatch)
		for i := range many {
			many[i] = fmt.Sprint(i)
		}
		source.add(many...)
		source.add("b")
		time.Sleep(lookEvery)
		synctest.Wait()
		if has(c, "b") {
			t.Error("b changed")
		}
	})
}

func TestAnswersOnlyWhileItFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &changes{err: errors.New("down")}
		c := running(t, source, 1<<20)
		put(t, c, key("a"), "before the first look")
		if c.Len() != 0 {
			t.Error("keeps what nothing would drop")
		}
		source.fail(nil)
		time.Sleep(lookEvery)
		synctest.Wait()
		put(t, c, key("a"), "a")
		if !has(c, "a") {
			t.Error("nothing is kept")
		}
		source.fail(errors.New("down"))
		time.Sleep(MaxStaleness)
		if !has(c, "a") {
			t.Error("forgets too early")
		}
		time.Sleep(lookEvery)
		if has(c, "a") {
			t.Error("answers although it cannot see changes")
		}
		source.add("b")
		source.fail(nil)
		time.Sleep(lookEvery)
		synctest.Wait()
		if !has(c, "a") {
			t.Error("a did not change meanwhile")
		}
	})
}

func TestEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := running(t, &changes{}, 1<<20)
		_, err := c.Load(t.Context(), []Key{key("a")}, func(context.Context, []Key) ([]Answer, error) {
			return []Answer{{Until: time.Now().Add(time.Hour)}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour - time.Nanosecond)
		synctest.Wait()
		if !has(c, "a") {
			t.Error("ends too early")
		}
		time.Sleep(time.Nanosecond)
		if has(c, "a") {
			t.Error("answers past the end")
		}
	})
}

// TestChangeWhileReading changes an image while it is read: what was read may be
// the time before.
func TestChangeWhileReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &changes{}
		c := running(t, source, 1<<20)
		_, err := c.Load(t.Context(), []Key{key("a"), key("b"), key("c")}, func(context.Context, []Key) ([]Answer, error) {
			source.add("a")
			time.Sleep(lookEvery)
			synctest.Wait()
			c.Forget("b")
			return make([]Answer, 3), nil
		})
		if err != nil || has(c, "a") || has(c, "b") || !has(c, "c") {
			t.Errorf("a %t, b %t, c %t, %v", has(c, "a"), has(c, "b"), has(c, "c"), err)
		}
		if _, err := c.Load(t.Context(), []Key{key("d")}, func(context.Context, []Key) ([]Answer, error) { return nil, errors.New("down") }); err == nil || has(c, "d") {
			t.Errorf("a failed read: %v", err)
		}
	})
}

func TestIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 100_000
		c := running(t, &changes{}, limit)
		for i := range 1000 {
			put(t, c, key(fmt.Sprint(i)), strings.Repeat("x", 1000))
		}
		c.mu.RLock()
		keys := len(c.keys)
		c.mu.RUnlock()
		if c.Size() > limit || c.Len() < 60 || keys != c.Len() || has(c, "0") || !has(c, "999") {
			t.Errorf("%d answers of %d bytes, %d digests", c.Len(), c.Size(), keys)
		}
	})
}

// writes is a store that does nothing.
type writes struct{ store.Store }

func (writes) Save(context.Context, store.NewVerdict) (store.Saved, error) {
	return store.Saved{}, errors.New("unknown whether it is done")
}
func (writes) RecordPush(context.Context, imageref.Ref, time.Time) error { return nil }
func (writes) Settle(context.Context, imageref.Ref) error                { return nil }

func TestStoreForgetsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := running(t, &changes{}, 1<<20)
		s := Store{Store: writes{}, Cache: c}
		i := imageref.Ref{Digest: "a"}
		for name, write := range map[string]func(){
			"Save":       func() { _, _ = s.Save(t.Context(), store.NewVerdict{Image: i}) },
			"RecordPush": func() { _ = s.RecordPush(t.Context(), i, time.Now()) },
			"Settle":     func() { _ = s.Settle(t.Context(), i) },
		} {
			put(t, c, key("a"), "a")
			if write(); has(c, "a") {
				t.Errorf("%s: still kept", name)
			}
		}
	})
}
