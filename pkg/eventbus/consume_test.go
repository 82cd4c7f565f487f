package eventbus_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/eventbustest"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

func TestConsume_RetriesThenSucceeds(t *testing.T) {
	e := newEnv(t)
	producer, worker, observer := e.buses()
	letters := e.letters(observer)
	attempts := make(chan int, 10)
	e.consume(worker, "worker-jobs", 1, func(_ context.Context, d *eventbus.Delivery) error {
		attempts <- d.Attempt
		if d.Attempt < 3 {
			return errBroken
		}
		return nil
	})
	e.publish(producer, "a")
	for want := 1; want <= 3; want++ {
		if got := receive(t, attempts, "attempt"); got != want {
			t.Fatalf("attempt is %d, want %d", got, want)
		}
	}
	root := e.root()
	eventually(t, "acknowledged", func() bool { return e.stored(root, "JOBS") == 0 })
	if len(letters) != 0 {
		t.Errorf("dead letter %q for a message that was handled", <-letters)
	}
}

func TestConsume_DeadLetters(t *testing.T) {
	for name, c := range map[string]struct {
		handler eventbus.Handler
		want    string
	}{
		"permanent": {func(context.Context, *eventbus.Delivery) error {
			return eventbus.Permanent("IMAGE_NOT_FOUND", errBroken)
		}, "IMAGE_NOT_FOUND|broken|1"},
		"last attempt": {func(context.Context, *eventbus.Delivery) error { return errBroken }, "INTERNAL|broken|3"},
		"panic":        {func(context.Context, *eventbus.Delivery) error { panic("boom") }, "PANIC|handler panicked: boom|3"},
		"timeout": {func(ctx context.Context, _ *eventbus.Delivery) error {
			<-ctx.Done()
			return ctx.Err()
		}, "TIMEOUT|context deadline exceeded|3"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.top.Streams[0].Consumers[0].MaxDuration = 50 * time.Millisecond
			producer, worker, observer := e.buses()
			letters := e.letters(observer)
			e.consume(worker, "worker-jobs", 1, c.handler)
			e.publish(producer, "a")
			if got := receive(t, letters, "dead letter"); got != c.want {
				t.Errorf("dead letter is %q, want %q", got, c.want)
			}
			root := e.root()
			eventually(t, "terminated", func() bool { return e.stored(root, "JOBS") == 0 })
		})
	}
}

// While its dead letter cannot be stored a message must stay, also beyond the
// last attempt; when it can be, the reason is still the first one.
func TestConsume_DeadLetterCannotBeStored(t *testing.T) {
	e := newEnv(t)
	o := e.options("worker")
	var broken atomic.Bool
	broken.Store(true)
	tries := make(chan struct{}, 1000)
	o.DeadLetter = func(d *eventbus.Delivery, info eventbus.DeadLetterInfo) (eventbus.Message, error) {
		m, err := deadLetter(d, info)
		tries <- struct{}{}
		if broken.Load() {
			m.Data = make([]byte, 33<<10) // its stream refuses it
		}
		return m, err
	}
	producer, _, observer := e.buses()
	worker := e.connect(o)
	letters := e.letters(observer)
	var runs atomic.Int32
	e.consume(worker, "worker-jobs", 1, func(context.Context, *eventbus.Delivery) error {
		runs.Add(1)
		return errBroken
	})
	e.publish(producer, "a")
	for range 12 { // far beyond MaxDeliver and the spare attempts
		receive(t, tries, "try")
	}
	root := e.root()
	if n := e.stored(root, "JOBS"); n != 1 {
		t.Fatalf("%d messages while the dead letter cannot be stored, want 1", n)
	}
	if n := runs.Load(); n != 3 {
		t.Errorf("handler ran %d times, want 3", n)
	}
	broken.Store(false)
	if got := receive(t, letters, "dead letter"); got != "INTERNAL|broken|3" {
		t.Errorf("dead letter is %q", got)
	}
	eventually(t, "terminated", func() bool { return e.stored(root, "JOBS") == 0 })
}

// A message that kills the process each time never reports a failure. It is
// given up without being handled once more.
func TestConsume_AttemptsExhausted(t *testing.T) {
	e := newEnv(t)
	producer, worker, observer := e.buses()
	letters := e.letters(observer)
	e.publish(producer, "a")
	e.abandon("worker-jobs", 6)
	var runs atomic.Int32
	e.consume(worker, "worker-jobs", 1, func(context.Context, *eventbus.Delivery) error { runs.Add(1); return nil })
	if got := receive(t, letters, "dead letter"); !strings.HasPrefix(got, "ATTEMPTS_EXHAUSTED|") || !strings.HasSuffix(got, "|7") {
		t.Errorf("dead letter is %q", got)
	}
	if runs.Load() != 0 {
		t.Error("the handler ran")
	}
}

// abandon takes a message n times and answers as a killed process does: never.
func (e *env) abandon(durable string, n int) {
	e.t.Helper()
	c, err := e.root().Consumer(e.ctx(), "JOBS", durable)
	if err != nil {
		e.t.Fatal(err)
	}
	for range n {
		msg, err := c.Next(jetstream.FetchMaxWait(patience))
		if err != nil {
			e.t.Fatalf("take message: %v", err)
		}
		if n > 1 {
			// As if AckWait had passed.
			if err := msg.Nak(); err != nil {
				e.t.Fatal(err)
			}
		}
	}
}

func TestConsume_AbandonedMessageComesBack(t *testing.T) {
	e := newEnv(t)
	producer, worker, _ := e.buses()
	e.publish(producer, "a")
	began := time.Now()
	e.abandon("worker-jobs", 1)
	got := make(chan int, 1)
	e.consume(worker, "worker-jobs", 1, func(_ context.Context, d *eventbus.Delivery) error { got <- d.Attempt; return nil })
	if attempt := receive(t, got, "redelivery"); attempt != 2 {
		t.Errorf("attempt is %d, want 2", attempt)
	}
	if took := time.Since(began); took < ackWait/2 {
		t.Errorf("came back after %v, AckWait is %v", took, ackWait)
	}
}

func TestConsume_HeartbeatKeepsASlowMessage(t *testing.T) {
	e := newEnv(t)
	producer, worker, _ := e.buses()
	var runs atomic.Int32
	done := make(chan struct{})
	e.consume(worker, "worker-jobs", 2, func(ctx context.Context, _ *eventbus.Delivery) error {
		runs.Add(1)
		defer close(done)
		select {
		case <-time.After(3 * ackWait):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	e.publish(producer, "slow")
	receive(t, done, "end of the slow handler")
	root := e.root()
	eventually(t, "acknowledged", func() bool { return e.stored(root, "JOBS") == 0 })
	if n := runs.Load(); n != 1 {
		t.Errorf("handled %d times, want once", n)
	}
}

// No more messages are taken than handlers are free: the rest stays on the
// server, for other replicas.
func TestConsume_BoundedPrefetch(t *testing.T) {
	e := newEnv(t)
	producer, worker, _ := e.buses()
	release := make(chan struct{})
	var running atomic.Int32
	e.consume(worker, "worker-jobs", 2, func(context.Context, *eventbus.Delivery) error {
		running.Add(1)
		<-release
		return nil
	})
	e.publish(producer, "a", "b", "c", "d", "e")
	eventually(t, "two run", func() bool { return running.Load() == 2 })
	c, err := e.root().Consumer(e.ctx(), "JOBS", "worker-jobs")
	if err != nil {
		t.Fatal(err)
	}
	info, err := c.Info(e.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if info.NumAckPending != 2 || info.NumPending != 3 {
		t.Errorf("%d taken and %d waiting, want 2 and 3", info.NumAckPending, info.NumPending)
	}
	close(release)
	eventually(t, "all handled", func() bool { return running.Load() == 5 })
}

func TestConsume_StopDrains(t *testing.T) {
	e := newEnv(t)
	producer, worker, _ := e.buses()
	started := make(chan struct{})
	finish := make(chan struct{})
	stop := e.consume(worker, "worker-jobs", 1, func(ctx context.Context, _ *eventbus.Delivery) error {
		close(started)
		<-finish
		return ctx.Err()
	})
	e.publish(producer, "a")
	receive(t, started, "start")
	time.AfterFunc(100*time.Millisecond, func() { close(finish) }) // within the drain time
	stop()
	if n := e.stored(e.root(), "JOBS"); n != 0 {
		t.Errorf("%d messages left, want 0: the handler was allowed to finish", n)
	}
}

func TestConsume_StopGivesBack(t *testing.T) {
	e := newEnv(t)
	e.cfg.DrainTimeout = 50 * time.Millisecond
	e.cfg.MaxDeliver = 1 // a failure would be a dead letter at once
	producer, worker, observer := e.buses()
	letters := e.letters(observer)
	started := make(chan struct{}, 1)
	stop := e.consume(worker, "worker-jobs", 1, func(ctx context.Context, _ *eventbus.Delivery) error {
		started <- struct{}{}
		<-ctx.Done()
		return context.Cause(ctx)
	})
	e.publish(producer, "a")
	receive(t, started, "start")
	stop()
	// Stopping is no failure: another replica has it at once.
	got := make(chan int, 1)
	e.consume(worker, "worker-jobs", 1, func(_ context.Context, d *eventbus.Delivery) error { got <- d.Attempt; return nil })
	if attempt := receive(t, got, "redelivery"); attempt != 2 {
		t.Errorf("attempt is %d, want 2", attempt)
	}
	if len(letters) != 0 {
		t.Errorf("dead letter %q", <-letters)
	}
}

func TestConsume_GoesOnAfterRestart(t *testing.T) {
	e := newEnv(t)
	producer, worker, _ := e.buses()
	var seen recorder
	e.consume(worker, "worker-jobs", 2, func(_ context.Context, d *eventbus.Delivery) error { seen.add(d); return nil })
	e.publish(producer, "a")
	eventually(t, "first handled", func() bool { return len(seen.ids()) == 1 })
	e.srv.Stop()
	e.srv.Start()
	eventually(t, "publishes again", func() bool { return producer.Publish(e.ctx(), job("b")) == nil })
	eventually(t, "second handled", func() bool { return len(seen.ids()) == 2 })
}

func TestConsume_RefusesForeignDurables(t *testing.T) {
	e := newEnv(t)
	b := e.bus("producer")
	if err := b.Consume(t.Context(), "worker-jobs", 1, nil); !errors.Is(err, eventbus.ErrNotAllowed) {
		t.Errorf("error is %v, want ErrNotAllowed", err)
	}
	w := e.bus("worker")
	if err := w.Consume(t.Context(), "worker-jobs", 0, nil); err == nil {
		t.Error("concurrency 0 is accepted")
	}
	o := e.options("worker")
	o.DeadLetter = nil
	if err := e.connect(o).Consume(t.Context(), "worker-jobs", 1, nil); err == nil {
		t.Error("a consumer without dead letters is accepted")
	}
}

func TestPermissions_ServerDenies(t *testing.T) {
	e := newEnv(t)
	e.buses()
	root := e.root()
	denied := make(chan error, 10)
	id := tlsx.ServiceID(eventbustest.TrustDomain, "worker")
	nc := e.raw(id, func(err error) { denied <- err }).Conn()
	for _, subject := range []string{
		subjectJobs, subjectAudit,
		"$JS.API.STREAM.DELETE.JOBS", "$JS.API.STREAM.PURGE.JOBS", "$JS.API.STREAM.UPDATE.JOBS",
		"$JS.API.CONSUMER.MSG.NEXT.LETTERS.observer-deadletters", "$JS.ACK.LETTERS.observer-deadletters.1.1.1.1.0",
		"$JS.API.CONSUMER.DELETE.JOBS.worker-jobs", "$JS.API.STREAM.MSG.GET.JOBS",
	} {
		if err := nc.Publish(subject, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		if err := receive(t, denied, "denial of "+subject); !strings.Contains(err.Error(), "ermissions") || !strings.Contains(err.Error(), subject) {
			t.Errorf("%s: %v", subject, err)
		}
	}
	for _, subject := range []string{subjectJobs, "_INBOX_producer.>", "$JS.EVENT.>", ">"} {
		sub, err := nc.SubscribeSync(subject)
		if err != nil {
			t.Fatal(err)
		}
		if err := receive(t, denied, "denial of "+subject); !strings.Contains(err.Error(), "ermissions") {
			t.Errorf("%s: %v", subject, err)
		}
		_ = sub.Unsubscribe()
	}
	if n := e.stored(root, "JOBS"); n != 0 {
		t.Errorf("%d messages came through", n)
	}
}
