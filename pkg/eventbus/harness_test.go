package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/eventbustest"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const (
	subjectJobs   = "test.evt.job.done.v1"
	subjectAudit  = "test.evt.audit.v1"
	subjectLetter = "test.evt.deadletter.worker.v1"
	ackWait       = 600 * time.Millisecond
	patience      = 15 * time.Second
)

// topology has a producer, a worker and an observer.
func topology() eventbus.Topology {
	consumer := func(durable, service, subject string) eventbus.Consumer {
		return eventbus.Consumer{
			Durable: durable, Service: service, Subjects: []string{subject}, AckWait: ackWait,
			MaxDeliver: 3, Backoff: []time.Duration{10 * time.Millisecond, 20 * time.Millisecond},
		}
	}
	letters := consumer("observer-deadletters", "observer", subjectLetter)
	letters.NoDeadLetter = true
	return eventbus.Topology{
		Streams: []eventbus.Stream{
			{
				Name: "JOBS", Subjects: []string{subjectJobs}, Retention: eventbus.Interest,
				MaxBytes: 64 << 10, MaxMsgSize: 16 << 10, Consumers: []eventbus.Consumer{consumer("worker-jobs", "worker", subjectJobs)},
			},
			{
				Name: "LETTERS", Subjects: []string{subjectLetter}, Retention: eventbus.Interest,
				MaxBytes: 64 << 10, MaxMsgSize: 32 << 10, Consumers: []eventbus.Consumer{letters},
			},
			{
				Name: "AUDIT", Subjects: []string{subjectAudit}, Retention: eventbus.Limits,
				MaxAge: time.Hour, MaxBytes: 64 << 10, MaxMsgSize: 16 << 10,
			},
		},
		Publishers: map[string][]string{subjectJobs: {"producer"}, subjectLetter: {"worker"}, subjectAudit: {"observer"}},
		Locks:      []eventbus.Locks{{Name: "TURNS", Owner: "worker", Prefix: "test.lock.worker", Lease: time.Second}},
		Objects:    []eventbus.Objects{{Name: "THINGS", Owner: "worker", Prefix: "test.obj.worker", MaxBytes: 8 << 20}},
		Retired:    []string{"OBJ_OLD"},
	}
}

// env is a server and the buses of one test.
type env struct {
	t     *testing.T
	srv   *eventbustest.Server
	users []eventbus.User
	top   eventbus.Topology
	cfg   eventbus.Config
}

func newEnv(t *testing.T) *env {
	t.Helper()
	top := topology()
	var users []eventbus.User
	for _, s := range append(top.Services(), eventbus.Provisioner) {
		users = append(users, top.User(s, tlsx.ServiceID(eventbustest.TrustDomain, s)))
	}
	// root is for looking at the server's state, past all permissions.
	users = append(users, eventbus.User{ID: tlsx.OperatorID(eventbustest.TrustDomain, "root"), Account: eventbus.Account, Pub: []string{">"}, Sub: []string{">"}})
	srv := eventbustest.Start(t, users)
	return &env{t: t, srv: srv, users: users, top: top, cfg: eventbus.Config{URL: srv.URL(), PublishTimeout: 2 * time.Second, DrainTimeout: time.Second}}
}

func deadLetter(d *eventbus.Delivery, info eventbus.DeadLetterInfo) (eventbus.Message, error) {
	return eventbus.Message{
		Subject: subjectLetter, ID: fmt.Sprintf("dead-%s-%d", info.Consumer, d.Sequence), Type: "letter", Source: info.Service,
		Data: []byte(info.Reason + "|" + info.Message + "|" + fmt.Sprint(info.Attempts)),
	}, nil
}

func (e *env) options(service string) eventbus.Options {
	return eventbus.Options{
		Service: service, TLS: e.srv.TLS(tlsx.ServiceID(eventbustest.TrustDomain, service)),
		Telemetry: obs.Discard(service), Topology: e.top, DeadLetter: deadLetter,
	}
}

func (e *env) connect(o eventbus.Options) *eventbus.Bus {
	e.t.Helper()
	b, err := eventbus.Connect(e.t.Context(), e.cfg, o)
	if err != nil {
		e.t.Fatalf("connect %s: %v", o.Service, err)
	}
	e.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			e.t.Errorf("close %s: %v", o.Service, err)
		}
	})
	return b
}

func (e *env) bus(service string) *eventbus.Bus {
	e.t.Helper()
	return e.connect(e.options(service))
}

func (e *env) ctx() context.Context {
	ctx, cancel := context.WithTimeout(e.t.Context(), patience)
	e.t.Cleanup(cancel)
	return ctx
}

// provision connects the provisioner and makes all streams.
func (e *env) provision() *eventbus.Bus {
	e.t.Helper()
	b := e.bus(eventbus.Provisioner)
	if err := b.Ensure(e.ctx()); err != nil {
		e.t.Fatalf("make streams: %v", err)
	}
	return b
}

// buses makes the streams and connects all three services.
func (e *env) buses() (producer, worker, observer *eventbus.Bus) {
	e.t.Helper()
	e.provision()
	producer, worker, observer = e.bus("producer"), e.bus("worker"), e.bus("observer")
	for _, b := range []*eventbus.Bus{producer, observer, worker} {
		if err := b.Ensure(e.ctx()); err != nil {
			e.t.Fatalf("ensure %s: %v", b.Service(), err)
		}
	}
	return producer, worker, observer
}

// restartWith restarts the server with other users on the same store.
func (e *env) restartWith(users []eventbus.User) {
	e.t.Helper()
	e.srv.Stop()
	e.srv.SetUsers(users)
	e.srv.Start()
}

// root is a plain connection that may do everything.
func (e *env) root() jetstream.JetStream {
	e.t.Helper()
	return e.raw(tlsx.OperatorID(eventbustest.TrustDomain, "root"), nil)
}

// raw is a plain connection with the identity's permissions.
func (e *env) raw(id string, onError func(error), opts ...nats.Option) jetstream.JetStream {
	e.t.Helper()
	src := e.srv.TLS(id)
	nc, err := nats.Connect(e.srv.URL(), append(opts,
		nats.Secure(src.Client(tlsx.ServiceID(eventbustest.TrustDomain, eventbus.Server))),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if onError != nil {
				onError(err)
			}
		}))...)
	if err != nil {
		e.t.Fatalf("connect %s: %v", id, err)
	}
	closed := make(chan struct{})
	nc.SetClosedHandler(func(*nats.Conn) { close(closed) })
	e.t.Cleanup(func() { nc.Close(); <-closed })
	js, err := jetstream.New(nc)
	if err != nil {
		e.t.Fatal(err)
	}
	return js
}

func (e *env) stored(js jetstream.JetStream, stream string) uint64 {
	e.t.Helper()
	s, err := js.Stream(e.ctx(), stream)
	if err != nil {
		e.t.Fatalf("stream %s: %v", stream, err)
	}
	return s.CachedInfo().State.Msgs
}

func job(id string) eventbus.Message {
	return eventbus.Message{
		Subject: subjectJobs, ID: id, Type: "job", Source: "spiffe://seaworthy.local/service/producer",
		AboutSubject: "registry.example/a b%c@sha256:ü", ContentType: "text/plain",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Data: []byte("do " + id),
	}
}

func (e *env) publish(b *eventbus.Bus, ids ...string) {
	e.t.Helper()
	for _, id := range ids {
		if err := b.Publish(e.ctx(), job(id)); err != nil {
			e.t.Fatalf("publish %s: %v", id, err)
		}
	}
}

// consume runs a consumer until the test ends or the returned function is called.
func (e *env) consume(b *eventbus.Bus, durable string, concurrency int, h eventbus.Handler) (stop func()) {
	e.t.Helper()
	ctx, cancel := context.WithCancel(e.t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Consume(ctx, durable, concurrency, h) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				e.t.Errorf("consume %s: %v", durable, err)
			}
		case <-time.After(patience):
			e.t.Errorf("consume %s does not end", durable)
		}
	})
	e.t.Cleanup(stop)
	return stop
}

// letters collects the dead letters that the observer sees.
func (e *env) letters(observer *eventbus.Bus) <-chan string {
	e.t.Helper()
	ch := make(chan string, 100)
	e.consume(observer, "observer-deadletters", 1, func(_ context.Context, d *eventbus.Delivery) error {
		ch <- string(d.Data)
		return nil
	})
	return ch
}

func receive[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}

// eventually polls a state that only the server knows.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// recorder collects what handlers saw.
type recorder struct {
	mu   sync.Mutex
	seen []eventbus.Delivery
}

func (r *recorder) add(d *eventbus.Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, *d)
}

func (r *recorder) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []string
	for _, d := range r.seen {
		ids = append(ids, d.ID)
	}
	slices.Sort(ids)
	return ids
}

var errBroken = errors.New("broken")

func containsLine(text, line string) bool {
	return slices.Contains(strings.Split(strings.ReplaceAll(text, "\r", ""), "\n"), line)
}
