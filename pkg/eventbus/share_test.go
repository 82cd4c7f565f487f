package eventbus_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
)

// grouped groups by what is before the slash of an id.
func (e *env) grouped() *eventbus.Bus {
	o := e.options("worker")
	o.Group = func(m *eventbus.Message) string { group, _, _ := strings.Cut(m.ID, "/"); return group }
	return e.connect(o)
}

// TestConsume_OneGroupHoldsHalf: a group with many slow messages has half of the handlers,
// also far beyond AckWait; another group's message that came last is handled at once, and
// what waited comes in order, once, as a first attempt.
func TestConsume_OneGroupHoldsHalf(t *testing.T) {
	e := newEnv(t)
	producer, _, observer := e.buses()
	letters := e.letters(observer)
	worker := e.grouped()
	release, others := make(chan struct{}), make(chan string, 10)
	var running, most atomic.Int64
	var mu sync.Mutex
	seen := map[string]int{}
	e.consume(worker, "worker-jobs", 4, func(ctx context.Context, d *eventbus.Delivery) error {
		if !strings.HasPrefix(d.ID, "flood/") {
			others <- d.ID
			return nil
		}
		mu.Lock()
		seen[d.ID] = d.Attempt
		mu.Unlock()
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	const flood = 20
	for i := range flood {
		e.publish(producer, fmt.Sprintf("flood/%d", i))
	}
	eventually(t, "two run", func() bool { return running.Load() == 2 })
	e.publish(producer, "other/1", "another/1")
	for range 2 {
		receive(t, others, "message of another group")
	}
	time.Sleep(2 * ackWait) // the server must not give what waits to anybody else
	close(release)
	root := e.root()
	eventually(t, "all acknowledged", func() bool { return e.stored(root, "JOBS") == 0 })
	mu.Lock()
	defer mu.Unlock()
	for id, attempt := range seen {
		if attempt != 1 {
			t.Errorf("%s was handled as attempt %d", id, attempt)
		}
	}
	if len(seen) != flood || most.Load() != 2 || len(letters) != 0 {
		t.Errorf("%d handled, at most %d at a time, %d dead letters", len(seen), most.Load(), len(letters))
	}
}

// TestConsume_WaitingIsGivenBack: stopping returns what waited; another replica has it.
func TestConsume_WaitingIsGivenBack(t *testing.T) {
	e := newEnv(t)
	producer, _, _ := e.buses()
	worker := e.grouped()
	release := make(chan struct{})
	var running atomic.Int64
	stop := e.consume(worker, "worker-jobs", 2, func(context.Context, *eventbus.Delivery) error {
		running.Add(1)
		<-release
		return nil
	})
	e.publish(producer, "flood/1", "flood/2", "flood/3")
	eventually(t, "one runs", func() bool { return running.Load() == 1 })
	time.AfterFunc(50*time.Millisecond, func() { close(release) })
	stop()
	got := make(chan string, 3)
	e.consume(worker, "worker-jobs", 2, func(_ context.Context, d *eventbus.Delivery) error { got <- d.ID; return nil })
	for range 2 {
		receive(t, got, "message that waited")
	}
}
