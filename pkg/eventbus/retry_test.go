package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
)

// Messages that wait for their next attempt do not keep others from being handled,
// however many they are: a registry that is down must not stop the others.
func TestConsume_FailingMessagesStopNobody(t *testing.T) {
	const failing = 1500 // the server's own limit would be 1,000
	e := newEnv(t)
	e.top.Streams[0].MaxBytes = 4 << 20
	e.top.Streams[0].Consumers[0].Backoff = []time.Duration{time.Hour}
	producer, worker, _ := e.buses()
	tried, good := make(chan struct{}, failing), make(chan struct{}, 1)
	e.consume(worker, "worker-jobs", 4, func(_ context.Context, d *eventbus.Delivery) error {
		if d.ID == "good" {
			good <- struct{}{}
			return nil
		}
		tried <- struct{}{}
		return errBroken
	})
	for i := range failing {
		e.publish(producer, fmt.Sprint("bad", i))
	}
	for range failing {
		receive(t, tried, "first attempt")
	}
	e.publish(producer, "good")
	receive(t, good, "the good message")
	root := e.root()
	eventually(t, "only the failing ones are left", func() bool { return e.stored(root, "JOBS") == failing })
}

// While the stream of dead letters is full, work goes on and each message whose letter
// does not fit stays in its own stream. When somebody takes letters all of them come.
func TestConsume_FullDeadLetterStream(t *testing.T) {
	const failing = 300
	e := newEnv(t)
	e.top.Streams[0].MaxBytes = 1 << 20
	e.top.Streams[0].Consumers[0].Backoff = []time.Duration{200 * time.Millisecond}
	e.top.Streams[1].MaxBytes = 32 << 10
	producer, worker, observer := e.buses()
	good := make(chan struct{}, 1)
	e.consume(worker, "worker-jobs", 4, func(_ context.Context, d *eventbus.Delivery) error {
		if d.ID == "good" {
			good <- struct{}{}
			return nil
		}
		return eventbus.Permanent("NO", errBroken)
	})
	for i := range failing {
		e.publish(producer, fmt.Sprint("bad", i))
	}
	root := e.root()
	full := func() bool { return e.stored(root, "JOBS") > 0 && e.stored(root, "LETTERS") > 50 }
	eventually(t, "full", full)
	e.publish(producer, "good")
	receive(t, good, "the good message")
	if !full() {
		t.Error("the stream of dead letters was not full")
	}
	var mu sync.Mutex
	seen := map[string]bool{}
	e.consume(observer, "observer-deadletters", 1, func(_ context.Context, d *eventbus.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		seen[d.ID] = true
		return nil
	})
	eventually(t, "all letters", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) == failing
	})
	eventually(t, "no message left", func() bool { return e.stored(root, "JOBS") == 0 && e.stored(root, "LETTERS") == 0 })
}

// A consumer of dead letters tries again for longer than others would, whatever the
// error: nobody keeps a dead letter of a dead letter.
func TestConsume_DeadLettersAreNotGivenUp(t *testing.T) {
	e := newEnv(t)
	producer, worker, observer := e.buses()
	const enough = 12 // beyond MaxDeliver and the spare attempts
	handled := make(chan int, 1)
	e.consume(observer, "observer-deadletters", 1, func(_ context.Context, d *eventbus.Delivery) error {
		if !strings.HasPrefix(string(d.Data), "NO|") {
			return eventbus.Permanent("BROKEN", errors.New("not the letter"))
		}
		if d.Attempt < enough/2 {
			return errBroken
		}
		if d.Attempt < enough {
			return eventbus.Permanent("BROKEN", errBroken)
		}
		handled <- d.Attempt
		return nil
	})
	e.consume(worker, "worker-jobs", 1, func(context.Context, *eventbus.Delivery) error {
		return eventbus.Permanent("NO", errBroken)
	})
	e.publish(producer, "a")
	if got := receive(t, handled, "dead letter"); got != enough {
		t.Errorf("attempt %d, want %d", got, enough)
	}
}
