package eventbus_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
)

func TestEnsure_CreatesWhatTheTopologySays(t *testing.T) {
	e := newEnv(t)
	e.cfg.MaxDeliver = 7
	e.buses()
	root := e.root()
	s, err := root.Stream(e.ctx(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	c := s.CachedInfo().Config
	if c.Retention != jetstream.InterestPolicy || c.Discard != jetstream.DiscardNew || c.Storage != jetstream.FileStorage ||
		c.MaxBytes != 64<<10 || c.MaxMsgSize != 16<<10 || c.Duplicates != 2*time.Minute || c.Replicas != 1 {
		t.Errorf("stream is %+v", c)
	}
	k, err := root.Consumer(e.ctx(), "JOBS", "worker-jobs")
	if err != nil {
		t.Fatal(err)
	}
	kc := k.CachedInfo().Config
	if kc.MaxDeliver != -1 {
		t.Errorf("the server stops after %d deliveries; it must not, as it would drop the message", kc.MaxDeliver)
	}
	if kc.AckWait != ackWait || kc.AckPolicy != jetstream.AckExplicitPolicy || kc.MaxAckPending != -1 || kc.DeliverPolicy != jetstream.DeliverAllPolicy {
		t.Errorf("consumer is %+v", kc)
	}
}

func TestEnsure_ChangesAnExistingStream(t *testing.T) {
	e := newEnv(t)
	old := e.provision()
	producer, worker := e.bus("producer"), e.bus("worker")
	e.publish(producer, "a")
	if err := old.Close(e.ctx()); err != nil { // it would change everything back
		t.Fatal(err)
	}
	e.top.Streams[0].MaxBytes *= 2
	e.cfg.AckWait = 2 * ackWait
	e.provision()
	root := e.root()
	s, err := root.Stream(e.ctx(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.CachedInfo().Config.MaxBytes; got != 128<<10 {
		t.Errorf("MaxBytes is %d", got)
	}
	k, err := root.Consumer(e.ctx(), "JOBS", "worker-jobs")
	if err != nil {
		t.Fatal(err)
	}
	if got := k.CachedInfo().Config.AckWait; got != 2*ackWait {
		t.Errorf("AckWait is %v", got)
	}
	var seen recorder
	e.consume(worker, "worker-jobs", 1, func(_ context.Context, d *eventbus.Delivery) error { seen.add(d); return nil })
	eventually(t, "message from before the change handled", func() bool { return len(seen.ids()) == 1 })
}

// What is published after the stream was created and before its consumer was
// must not be acknowledged and dropped for want of interest. The provisioner gets
// stuck between the two here because it lacks a permission.
func TestEnsure_LosesNothingDuringCreation(t *testing.T) {
	e := newEnv(t)
	all := e.users
	e.restartWith(slices.Collect(func(yield func(eventbus.User) bool) {
		for _, u := range all {
			u.Pub = slices.DeleteFunc(slices.Clone(u.Pub), func(s string) bool { return strings.HasPrefix(s, "$JS.API.CONSUMER.CREATE.JOBS") })
			if !yield(u) {
				return
			}
		}
	}))
	provisioner, producer, worker := e.bus(eventbus.Provisioner), e.bus("producer"), e.bus("worker")
	stuck, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := provisioner.Ensure(stuck); err == nil {
		t.Fatal("the consumer was created without the permission")
	}
	if _, err := e.root().Publish(e.ctx(), subjectJobs, nil); err != nil { // a release that compares nothing
		t.Fatal(err)
	}
	if n := e.stored(e.root(), "JOBS"); n != 1 {
		t.Fatalf("%d messages stored after the ack, want 1", n)
	}
	if err := producer.Publish(e.ctx(), job("b")); !errors.Is(err, eventbus.ErrDrift) {
		t.Errorf("publish into a stream that is half made: %v", err)
	}

	e.restartWith(all)
	if err := provisioner.Ensure(e.ctx()); err != nil {
		t.Fatal(err)
	}
	var seen recorder
	e.consume(worker, "worker-jobs", 1, func(_ context.Context, d *eventbus.Delivery) error { seen.add(d); return nil })
	eventually(t, "the message is handled", func() bool { return len(seen.ids()) == 1 })
	root := e.root()
	eventually(t, "and leaves the stream, whose retention is by interest now", func() bool { return e.stored(root, "JOBS") == 0 })
}

// Any order of starts: a service waits, visibly not ready, for its streams.
func TestEnsure_WaitsForTheProvisioner(t *testing.T) {
	e := newEnv(t)
	worker := e.bus("worker")
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := worker.Ensure(short); !errors.Is(err, eventbus.ErrUnavailable) {
		t.Fatalf("error is %v, want ErrUnavailable", err)
	}
	if worker.Ready() == nil {
		t.Error("ready without streams")
	}
	ensured := make(chan error, 1)
	go func() { ensured <- worker.Ensure(e.ctx()) }()
	var seen recorder
	e.consume(worker, "worker-jobs", 1, func(_ context.Context, d *eventbus.Delivery) error { seen.add(d); return nil })
	producer := e.bus("producer")
	e.provision()
	if err := receive(t, ensured, "ensure"); err != nil {
		t.Fatal(err)
	}
	if err := worker.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	e.publish(producer, "a")
	eventually(t, "handled", func() bool { return len(seen.ids()) == 1 })
}

func TestEnsure_StreamsThatVanishedComeBack(t *testing.T) {
	e := newEnv(t)
	producer, worker, _ := e.buses()
	var seen recorder
	e.consume(worker, "worker-jobs", 2, func(_ context.Context, d *eventbus.Delivery) error { seen.add(d); return nil })
	e.publish(producer, "a")
	eventually(t, "handled", func() bool { return len(seen.ids()) == 1 })
	if err := e.root().DeleteStream(e.ctx(), "JOBS"); err != nil {
		t.Fatal(err)
	}
	if err := producer.Publish(e.ctx(), job("b")); err != nil {
		t.Errorf("publish does not bring the stream back: %v", err)
	}
	eventually(t, "the consumer found the new stream", func() bool {
		return cmp.Diff([]string{"a", "b"}, seen.ids()) == ""
	})
}

func TestEnsure_NewStoreAfterRestart(t *testing.T) {
	e := newEnv(t)
	producer, _, _ := e.buses()
	e.srv.Stop()
	e.srv.Wipe()
	e.srv.Start()
	root := e.root()
	eventually(t, "the provisioner made the stream again without being asked", func() bool {
		_, err := root.Consumer(e.ctx(), "JOBS", "worker-jobs")
		return err == nil
	})
	e.publish(producer, "a")
}

func TestConnect_ServerComesLater(t *testing.T) {
	e := newEnv(t)
	e.srv.Stop()
	began := time.Now()
	producer, provisioner := e.bus("producer"), e.bus(eventbus.Provisioner)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("Connect took %v without a server", took)
	}
	if producer.Ready() == nil {
		t.Error("ready without a server")
	}
	e.srv.Start()
	for _, b := range []*eventbus.Bus{provisioner, producer} {
		if err := b.Ensure(e.ctx()); err != nil {
			t.Fatal(err)
		}
	}
	e.publish(producer, "a")
}

func TestConnect_StrangersStayOut(t *testing.T) {
	e := newEnv(t)
	o := e.options("worker")
	o.TLS = e.srv.TLS("spiffe://seaworthy.local/service/stranger") // of our CA, but no user
	b := e.connect(o)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := b.Ensure(ctx); err == nil {
		t.Error("a certificate without user got in")
	}
	t.Log(b.Ready())
	// Without TLS the server does not talk at all.
	var d net.Dialer
	conn, err := d.DialContext(e.ctx(), "tcp", e.srv.URL()[len("nats://"):])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte("CONNECT {\"verbose\":true}\r\nPING\r\n")); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, 64<<10)
	for total := 0; ; {
		n, err := conn.Read(reply[total:])
		total += n
		if err != nil {
			for _, ok := range []string{"+OK", "PONG"} {
				if containsLine(string(reply[:total]), ok) {
					t.Errorf("the server answered %s to a client without TLS", ok)
				}
			}
			return
		}
	}
}

func TestConnect_Refuses(t *testing.T) {
	e := newEnv(t)
	for name, change := range map[string]func(*eventbus.Options){
		"no TLS":       func(o *eventbus.Options) { o.TLS = nil },
		"no telemetry": func(o *eventbus.Options) { o.Telemetry = nil },
		"no service":   func(o *eventbus.Options) { o.Service = "" },
		"bad topology": func(o *eventbus.Options) { o.Topology.Streams[0].Subjects = nil },
	} {
		t.Run(name, func(t *testing.T) {
			e.top = topology()
			o := e.options("producer")
			change(&o)
			if b, err := eventbus.Connect(t.Context(), e.cfg, o); err == nil {
				_ = b.Close(t.Context())
				t.Error("accepted")
			}
		})
	}
}

func TestClose_EndsConsumersAndPublishers(t *testing.T) {
	e := newEnv(t)
	producer, worker, _ := e.buses()
	ended := make(chan error, 1)
	running := make(chan struct{})
	go func() {
		ended <- worker.Consume(context.WithoutCancel(t.Context()), "worker-jobs", 2, func(context.Context, *eventbus.Delivery) error {
			close(running)
			return nil
		})
	}()
	e.publish(producer, "a")
	receive(t, running, "handler")
	if err := worker.Close(e.ctx()); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, ended, "end of Consume"); err != nil {
		t.Errorf("Consume: %v", err)
	}
	if err := worker.Consume(t.Context(), "worker-jobs", 1, nil); !errors.Is(err, eventbus.ErrUnavailable) {
		t.Errorf("Consume on a closed bus: %v", err)
	}
	if err := producer.Close(e.ctx()); err != nil {
		t.Fatal(err)
	}
	if err := producer.Publish(t.Context(), job("b")); !errors.Is(err, eventbus.ErrUnavailable) {
		t.Errorf("Publish on a closed bus: %v", err)
	}
	if producer.Ready() == nil {
		t.Error("a closed bus is ready")
	}
}

// A service does not work with a stream or a consumer that somebody changed: it is not
// ready, publishes nothing there and takes nothing from there. The provisioner puts it
// right.
func TestEnsure_RefusesDrift(t *testing.T) {
	for name, change := range map[string]func(*jetstream.StreamConfig){
		"republish": func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: subjectJobs, Destination: "test.copy"}
		},
		"sources": func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{{Name: "AUDIT"}} },
		"transform": func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "test.other", Destination: "test.evt.other.v1"}
		},
		"another subject": func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "test.any.>") },
		"another place":   func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, subjectAudit) },
		"subject gone":    func(c *jetstream.StreamConfig) { c.Subjects = []string{"test.evt.else.v1"} },
		"retention":       func(c *jetstream.StreamConfig) { c.Retention = jetstream.LimitsPolicy },
		"roll-ups":        func(c *jetstream.StreamConfig) { c.AllowRollup = true },
		"no answer":       func(c *jetstream.StreamConfig) { c.NoAck = true },
		"old ones out":    func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.cfg.PublishTimeout = 300 * time.Millisecond
			provisioner := e.provision()
			if err := provisioner.Close(e.ctx()); err != nil {
				t.Fatal(err)
			}
			root := e.root()
			if name == "another place" {
				if err := root.DeleteStream(e.ctx(), "AUDIT"); err != nil {
					t.Fatal(err)
				}
			}
			s, err := root.Stream(e.ctx(), "JOBS")
			if err != nil {
				t.Fatal(err)
			}
			c := s.CachedInfo().Config
			change(&c)
			if _, err := root.UpdateStream(e.ctx(), c); err != nil {
				t.Fatal(err)
			}
			producer := e.bus("producer")
			short, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := producer.Ensure(short); !errors.Is(err, eventbus.ErrDrift) {
				t.Fatalf("ensure: %v, want ErrDrift", err)
			}
			if err := producer.Ready(); !errors.Is(err, eventbus.ErrDrift) {
				t.Errorf("ready: %v", err)
			}
			if err := producer.Publish(e.ctx(), job("a")); !errors.Is(err, eventbus.ErrUnavailable) {
				t.Errorf("publish: %v", err)
			}
			changes, err := e.bus(eventbus.Provisioner).Apply(e.ctx())
			if err != nil {
				t.Fatal(err)
			}
			if len(changes) == 0 || changes[0].Name != "JOBS" || changes[0].Action != eventbus.Updated || len(changes[0].Fields) == 0 {
				t.Errorf("changes are %+v", changes)
			}
			if err := producer.Ensure(e.ctx()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A stream is compared before its first use on a connection, also by who never called
// Ensure: otherwise the server would copy what is published in the moment before.
func TestUse_ComparesFirst(t *testing.T) {
	e := newEnv(t)
	e.cfg.PublishTimeout = 300 * time.Millisecond
	good := e.users
	if err := e.provision().Close(e.ctx()); err != nil {
		t.Fatal(err)
	}
	root := e.root()
	change := func(name string, change func(*jetstream.StreamConfig)) {
		t.Helper()
		s, err := root.Stream(e.ctx(), name)
		if err != nil {
			t.Fatal(err)
		}
		c := s.CachedInfo().Config
		change(&c)
		if _, err := root.UpdateStream(e.ctx(), c); err != nil {
			t.Fatal(err)
		}
	}
	copied := func(c *jetstream.StreamConfig) {
		c.RePublish = &jetstream.RePublish{Source: ">", Destination: "test.copy.>"}
	}
	restored := func(c *jetstream.StreamConfig) { c.RePublish = nil }
	refused := func(who *eventbus.Bus) {
		t.Helper()
		if err := who.Publish(e.ctx(), job("refused")); !errors.Is(err, eventbus.ErrUnavailable) || !errors.Is(err, eventbus.ErrDrift) {
			t.Errorf("publish: %v", err)
		}
		if n := e.stored(root, "JOBS"); n != 0 {
			t.Errorf("%d messages are stored", n)
		}
	}

	// The worker, whose locks and objects these are, never calls Ensure; neither do
	// the producers.
	for _, name := range []string{"JOBS", "TURNS", "THINGS"} {
		change(name, copied)
	}
	refused(e.bus("producer"))
	worker := e.bus("worker")
	if _, err := worker.Lock(e.ctx(), "TURNS", "k"); !errors.Is(err, eventbus.ErrDrift) {
		t.Errorf("lock: %v", err)
	}
	if err := worker.PutObject(e.ctx(), "THINGS", "o", strings.NewReader("x")); !errors.Is(err, eventbus.ErrDrift) {
		t.Errorf("object: %v", err)
	}
	var seen recorder
	e.consume(worker, "worker-jobs", 1, func(_ context.Context, d *eventbus.Delivery) error { seen.add(d); return nil })
	if _, err := root.Publish(e.ctx(), subjectJobs, nil, jetstream.WithMsgID("of root")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // an absence cannot be waited for
	if got := seen.ids(); len(got) != 0 {
		t.Errorf("consumed %v from a stream that is copied", got)
	}
	change("JOBS", restored)
	eventually(t, "consumed once the stream is right", func() bool { return len(seen.ids()) == 1 })

	// What was compared counts for one connection only.
	producer := e.bus("producer")
	e.publish(producer, "a")
	e.restartWith(slices.DeleteFunc(slices.Clone(good), func(u eventbus.User) bool { return u.Account == "PRODUCER" }))
	root = e.root()
	change("JOBS", copied)
	eventually(t, "the producer is away", func() bool { return producer.Ready() != nil })
	e.restartWith(good)
	root = e.root()
	eventually(t, "the producer is back", func() bool { return producer.Ready() == nil })
	eventually(t, "a was consumed", func() bool { return e.stored(root, "JOBS") == 0 })
	refused(producer)
}

// A consumer that somebody changed, for example to deliver to a subject of his choice.
func TestEnsure_RefusesDriftOfConsumers(t *testing.T) {
	e := newEnv(t)
	if err := e.provision().Close(e.ctx()); err != nil {
		t.Fatal(err)
	}
	root := e.root()
	replace := func(c jetstream.ConsumerConfig) {
		t.Helper()
		if err := root.DeleteConsumer(e.ctx(), "JOBS", "worker-jobs"); err != nil {
			t.Fatal(err)
		}
		if _, err := root.CreateConsumer(e.ctx(), "JOBS", c); err != nil {
			t.Fatal(err)
		}
	}
	k, err := root.Consumer(e.ctx(), "JOBS", "worker-jobs")
	if err != nil {
		t.Fatal(err)
	}
	good := k.CachedInfo().Config
	worker := e.bus("worker")
	for name, change := range map[string]func(*jetstream.ConsumerConfig){
		"attempts": func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 1 },
		"acks":     func(c *jetstream.ConsumerConfig) { c.AckPolicy = jetstream.AckAllPolicy },
		"new only": func(c *jetstream.ConsumerConfig) { c.DeliverPolicy = jetstream.DeliverNewPolicy },
		"headers":  func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true },
	} {
		c := good
		change(&c)
		replace(c)
		short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if err := worker.Ensure(short); !errors.Is(err, eventbus.ErrDrift) {
			t.Errorf("%s: %v, want ErrDrift", name, err)
		}
		cancel()
	}
	if _, err := e.bus(eventbus.Provisioner).Apply(e.ctx()); err == nil {
		// The last change may be one that cannot be updated; then Apply says so.
		if err := worker.Ensure(e.ctx()); err != nil {
			t.Error(err)
		}
	} else if !strings.Contains(err.Error(), "worker-jobs") {
		t.Errorf("error is %v", err)
	}
}

// The provisioner names what it does not know and deletes what it knows to be old.
func TestApply_UnknownAndRetired(t *testing.T) {
	e := newEnv(t)
	root := e.root()
	for name, subject := range map[string]string{"STRANGE": "test.strange", "OBJ_OLD": "test.old"} {
		if _, err := root.CreateStream(e.ctx(), jetstream.StreamConfig{Name: name, Subjects: []string{subject}}); err != nil {
			t.Fatal(err)
		}
	}
	b := e.bus(eventbus.Provisioner)
	if _, err := b.Apply(e.ctx()); err != nil {
		t.Fatal(err)
	}
	if _, err := root.CreateConsumer(e.ctx(), "AUDIT", jetstream.ConsumerConfig{Durable: "strange"}); err != nil {
		t.Fatal(err)
	}
	changes, err := b.Apply(e.ctx())
	if err != nil {
		t.Fatal(err)
	}
	want := []eventbus.Change{{Kind: "stream", Name: "STRANGE", Action: eventbus.Unknown}, {Kind: "consumer", Name: "AUDIT/strange", Action: eventbus.Unknown}}
	if diff := cmp.Diff(want, changes); diff != "" {
		t.Errorf("second run (-want +got):\n%s", diff)
	}
	if _, err := root.Stream(e.ctx(), "OBJ_OLD"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("the old stream: %v", err)
	}
	if _, err := e.bus("worker").Apply(e.ctx()); !errors.Is(err, eventbus.ErrNotAllowed) {
		t.Errorf("a service applies: %v", err)
	}
}
