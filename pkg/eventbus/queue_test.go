package eventbus_test

import (
	"context"
	"fmt"
	"slices"
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

// TestConsume_BehindABurst: with one handler, a message that comes last after a burst of
// one group, and of many, is handled before nearly all of the burst.
func TestConsume_BehindABurst(t *testing.T) {
	for name, groups := range map[string]int{"one group": 1, "many groups": 50} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.top.Streams[0].MaxBytes = 1 << 20
			producer, _, _ := e.buses()
			worker := e.grouped()
			var mu sync.Mutex
			var order []string
			handled := map[string]bool{}
			e.consume(worker, "worker-jobs", 1, func(_ context.Context, d *eventbus.Delivery) error {
				time.Sleep(2 * time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				// A message whose heartbeat came late on a busy machine is delivered again.
				if !handled[d.ID] {
					handled[d.ID] = true
					order = append(order, d.ID)
				}
				return nil
			})
			const burst = 600
			for i := range burst {
				e.publish(producer, fmt.Sprintf("g%d/%d", i%groups, i))
			}
			mu.Lock()
			before := len(order)
			mu.Unlock()
			e.publish(producer, "fresh/1")
			root := e.root()
			eventually(t, "all acknowledged", func() bool { return e.stored(root, "JOBS") == 0 })
			mu.Lock()
			defer mu.Unlock()
			behind := slices.Index(order, "fresh/1") - before
			if len(order) != burst+1 || behind < 0 || 4*behind > burst-before {
				t.Errorf("%d of %d handled; of %d that waited %d came before the fresh one", len(order), burst+1, burst-before, behind)
			}
		})
	}
}

// TestConsume_ReplicaThatReadAheadDies: the messages that a dead replica had taken come to
// another one, each once and with attempts left.
func TestConsume_ReplicaThatReadAheadDies(t *testing.T) {
	e := newEnv(t)
	producer, worker, observer := e.buses()
	letters := e.letters(observer)
	const n = 100
	for i := range n {
		e.publish(producer, fmt.Sprintf("g%d/%d", i%7, i))
	}
	dead, err := e.root().Consumer(e.ctx(), "JOBS", "worker-jobs")
	if err != nil {
		t.Fatal(err)
	}
	taken, err := dead.FetchNoWait(n)
	if err != nil {
		t.Fatal(err)
	}
	had := 0
	for range taken.Messages() {
		had++
	}
	if had != n {
		t.Fatalf("the dead replica had %d messages", had)
	}
	var mu sync.Mutex
	seen := map[string]int{}
	e.consume(worker, "worker-jobs", 2, func(_ context.Context, d *eventbus.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		seen[d.ID] += d.Attempt
		return nil
	})
	root := e.root()
	eventually(t, "all acknowledged", func() bool { return e.stored(root, "JOBS") == 0 })
	mu.Lock()
	defer mu.Unlock()
	for id, attempts := range seen {
		if attempts != 2 {
			t.Errorf("%s: attempts %d, want the second one alone", id, attempts)
		}
	}
	if len(seen) != n || len(letters) != 0 {
		t.Errorf("%d of %d handled, %d dead letters", len(seen), n, len(letters))
	}
}

// TestConsume_BusyReplicaLeavesMessagesToFreeOnes: a replica whose handlers are all busy
// takes no message that another could handle at once.
func TestConsume_BusyReplicaLeavesMessagesToFreeOnes(t *testing.T) {
	e := newEnv(t)
	producer, _, _ := e.buses()
	busy, free := e.grouped(), e.grouped()
	release, got := make(chan struct{}), make(chan string, 100)
	defer close(release)
	var running atomic.Int64
	e.consume(busy, "worker-jobs", 2, func(context.Context, *eventbus.Delivery) error {
		running.Add(1)
		<-release
		return nil
	})
	e.publish(producer, "slow/1", "slower/2")
	eventually(t, "busy", func() bool { return running.Load() == 2 })
	e.consume(free, "worker-jobs", 2, func(_ context.Context, d *eventbus.Delivery) error { got <- d.ID; return nil })
	for i := range 50 {
		e.publish(producer, fmt.Sprintf("quick/%d", i))
		receive(t, got, "message")
	}
}

// TestIdle_LendsTheHandler: while all handlers wait in Idle other messages are handled.
func TestIdle_LendsTheHandler(t *testing.T) {
	e := newEnv(t)
	producer, worker, _ := e.buses()
	release, got := make(chan struct{}), make(chan string, 10)
	e.consume(worker, "worker-jobs", 2, func(ctx context.Context, d *eventbus.Delivery) error {
		if strings.HasPrefix(d.ID, "wait") {
			return eventbus.Idle(ctx, func() error { <-release; return nil })
		}
		got <- d.ID
		return nil
	})
	e.publish(producer, "wait1", "wait2", "wait3", "work")
	receive(t, got, "message behind those that wait")
	close(release)
	root := e.root()
	eventually(t, "all acknowledged", func() bool { return e.stored(root, "JOBS") == 0 })
}

// TestConsume_OneRegistryHoldsNotAll: many slow groups of one registry leave a handler to
// those of another, and may have all while there is no other.
func TestConsume_OneRegistryHoldsNotAll(t *testing.T) {
	for name, want := range map[string]int64{"alone": 4, "with another": 3} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			producer, _, _ := e.buses()
			o := e.options("worker")
			o.Group = func(m *eventbus.Message) string { return m.ID[:strings.LastIndexByte(m.ID, '/')] }
			worker := e.connect(o)
			release, others := make(chan struct{}), make(chan string, 10)
			defer close(release)
			var running atomic.Int64
			e.consume(worker, "worker-jobs", 4, func(_ context.Context, d *eventbus.Delivery) error {
				if !strings.HasPrefix(d.ID, "slow/") {
					others <- d.ID
					return nil
				}
				running.Add(1)
				<-release
				return nil
			})
			if want < 4 {
				e.publish(producer, "other/app/1")
				receive(t, others, "message of another registry")
			}
			for i := range 8 {
				e.publish(producer, fmt.Sprintf("slow/app%d/1", i))
			}
			eventually(t, "handlers are held", func() bool { return running.Load() == want })
			if want < 4 {
				for i := range 5 {
					e.publish(producer, fmt.Sprintf("other/app/%d", i+2))
					receive(t, others, "message of another registry")
				}
				if n := running.Load(); n != want {
					t.Errorf("%d handlers are held, want %d", n, want)
				}
			}
		})
	}
}
