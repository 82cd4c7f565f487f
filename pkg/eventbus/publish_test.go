package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
)

func TestPublish_AckedAndDelivered(t *testing.T) {
	e := newEnv(t)
	producer, worker, _ := e.buses()
	root := e.root()
	e.publish(producer, "a")
	if n := e.stored(root, "JOBS"); n != 1 {
		t.Fatalf("%d messages stored after the ack, want 1", n)
	}
	got := make(chan *eventbus.Delivery, 1)
	e.consume(worker, "worker-jobs", 2, func(_ context.Context, d *eventbus.Delivery) error {
		got <- d
		return nil
	})
	d := receive(t, got, "delivery")
	if diff := cmp.Diff(job("a"), d.Message); diff != "" {
		t.Errorf("message changed on its way (-sent +received):\n%s", diff)
	}
	if d.Stream != "JOBS" || d.Consumer != "worker-jobs" || d.Sequence != 1 || d.Attempt != 1 {
		t.Errorf("delivery is %+v", d)
	}
	for name, want := range map[string]string{
		"Nats-Msg-Id": "a", "ce-id": "a", "ce-specversion": "1.0", "ce-type": "job", "Content-Type": "text/plain",
		"ce-subject": "registry.example/a%20b%25c@sha256:%C3%BC", "ce-time": "2026-01-02T03:04:05.000000006Z",
	} {
		if d.Header[name] != want {
			t.Errorf("header %s is %q, want %q", name, d.Header[name], want)
		}
	}
	if !strings.HasPrefix(d.Header["traceparent"], "00-") {
		t.Errorf("traceparent is %q", d.Header["traceparent"])
	}
	eventually(t, "stream is empty after the ack", func() bool { return e.stored(root, "JOBS") == 0 })
}

func TestPublish_SameIDStoredOnce(t *testing.T) {
	e := newEnv(t)
	producer, _, _ := e.buses()
	e.publish(producer, "a", "a", "b", "a")
	if n := e.stored(e.root(), "JOBS"); n != 2 {
		t.Errorf("%d messages stored, want 2", n)
	}
}

func TestPublish_Full(t *testing.T) {
	e := newEnv(t)
	producer, worker, _ := e.buses()
	m := job("x")
	m.Data = make([]byte, 8<<10)
	var err error
	stored := 0
	for i := range 20 {
		m.ID = fmt.Sprintf("m%d", i)
		if err = producer.Publish(e.ctx(), m); err != nil {
			break
		}
		stored++
	}
	if !errors.Is(err, eventbus.ErrFull) {
		t.Fatalf("error is %v after %d messages, want ErrFull", err, stored)
	}
	// Nothing that was acknowledged was dropped to make room, and room comes
	// with the consumer.
	var seen recorder
	e.consume(worker, "worker-jobs", 4, func(_ context.Context, d *eventbus.Delivery) error { seen.add(d); return nil })
	eventually(t, "all stored messages handled", func() bool { return len(seen.ids()) == stored })
	eventually(t, "room again", func() bool { return producer.Publish(e.ctx(), m) == nil })
}

func TestPublish_TooLarge(t *testing.T) {
	e := newEnv(t)
	producer, _, _ := e.buses()
	for _, size := range []int{16 << 10, 2 << 20} {
		m := job("big")
		m.Data = make([]byte, size)
		if err := producer.Publish(e.ctx(), m); !errors.Is(err, eventbus.ErrTooLarge) {
			t.Errorf("%d bytes: error is %v, want ErrTooLarge", size, err)
		}
	}
}

func TestPublish_RefusedBeforeTheWire(t *testing.T) {
	e := newEnv(t)
	producer := e.bus("producer")
	for name, c := range map[string]struct {
		change func(*eventbus.Message)
		want   error
	}{
		"subject of another service": {func(m *eventbus.Message) { m.Subject = subjectAudit }, eventbus.ErrNotAllowed},
		"unknown subject":            {func(m *eventbus.Message) { m.Subject = "test.evt.other.v1" }, eventbus.ErrNotAllowed},
		"no id":                      {func(m *eventbus.Message) { m.ID = "" }, nil},
		"no type":                    {func(m *eventbus.Message) { m.Type = "" }, nil},
		"long source":                {func(m *eventbus.Message) { m.Source = strings.Repeat("s", 1025) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			m := job("a")
			c.change(&m)
			err := producer.Publish(t.Context(), m)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("error is %v, want %v", err, c.want)
			}
		})
	}
}

func TestPublish_NATSDownAndBack(t *testing.T) {
	e := newEnv(t)
	e.cfg.PublishTimeout = 300 * time.Millisecond
	producer, worker, _ := e.buses()
	e.publish(producer, "before")
	e.srv.Stop()
	began := time.Now()
	err := producer.Publish(e.ctx(), job("during"))
	if !errors.Is(err, eventbus.ErrUnavailable) {
		t.Fatalf("error is %v, want ErrUnavailable", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("took %v with a timeout of %v", took, e.cfg.PublishTimeout)
	}
	eventually(t, "not ready", func() bool { return producer.Ready() != nil })

	e.srv.Start()
	eventually(t, "publishes again", func() bool { return producer.Publish(e.ctx(), job("after")) == nil })
	eventually(t, "ready again", func() bool { return producer.Ready() == nil })
	var seen recorder
	e.consume(worker, "worker-jobs", 1, func(_ context.Context, d *eventbus.Delivery) error { seen.add(d); return nil })
	eventually(t, "what was acknowledged before and after is there", func() bool {
		return cmp.Diff([]string{"after", "before"}, seen.ids()) == ""
	})
}

func TestPublish_WaitsThroughAShortOutage(t *testing.T) {
	e := newEnv(t)
	e.cfg.PublishTimeout = patience
	producer, _, _ := e.buses()
	e.srv.Stop()
	eventually(t, "noticed", func() bool { return producer.Ready() != nil })
	published := make(chan error, 1)
	go func() { published <- producer.Publish(e.ctx(), job("a")) }()
	e.srv.Start()
	if err := receive(t, published, "publish"); err != nil {
		t.Errorf("publish across a restart: %v", err)
	}
}

func TestPublish_CallerGone(t *testing.T) {
	e := newEnv(t)
	e.cfg.PublishTimeout = time.Minute
	producer := e.bus("producer") // no stream: it would wait for one
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if err := producer.Publish(ctx, job("a")); !errors.Is(err, context.Canceled) || errors.Is(err, eventbus.ErrUnavailable) {
		t.Errorf("error is %v, want context.Canceled alone", err)
	}
}
