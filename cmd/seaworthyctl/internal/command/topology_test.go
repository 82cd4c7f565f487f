package command_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/fleetcontext"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/eventbustest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// topologyFleet is a NATS server without streams, and root, who may do everything.
type topologyFleet struct {
	t    *testing.T
	srv  *eventbustest.Server
	args []string
	root jetstream.JetStream
}

func newTopologyFleet(t *testing.T) *topologyFleet {
	t.Helper()
	rootID := tlsx.OperatorID(eventbustest.TrustDomain, "root")
	srv := eventbustest.Start(t, append(events.Users(eventbustest.TrustDomain),
		eventbus.User{ID: rootID, Account: eventbus.Account, Pub: []string{">"}, Sub: []string{">"}}))
	f := &topologyFleet{t: t, srv: srv, args: topologyArgs(srv, tlsx.ServiceID(eventbustest.TrustDomain, eventbus.Provisioner))}
	closed := make(chan struct{})
	nc, err := nats.Connect(srv.URL(), nats.Secure(srv.TLS(rootID).Client(tlsx.ServiceID(eventbustest.TrustDomain, eventbus.Server))),
		nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close(); <-closed })
	if f.root, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	return f
}

// topologyArgs returns the arguments that reach a server as the identity.
func topologyArgs(srv *eventbustest.Server, id string) []string {
	files := srv.TLSConfig(id)
	return []string{"topology", "--nats", srv.URL(), "--ca-file", files.CAFile, "--cert-file", files.CertFile, "--key-file", files.KeyFile}
}

func (f *topologyFleet) run(args ...string) result {
	f.t.Helper()
	return runWith(f.t.Context(), fleetcontext.Places{}, append(slices.Clone(f.args), args...)...)
}

// change is one line of the command's JSON.
type change struct {
	Kind, Name, Action string
	Fields             []string
}

func (f *topologyFleet) changes(r result) []change {
	f.t.Helper()
	var answer struct{ Changes []change }
	if err := json.Unmarshal([]byte(r.out), &answer); err != nil {
		f.t.Fatalf("%+v: %v", r, err)
	}
	return answer.Changes
}

func (f *topologyFleet) update(stream string, change func(*jetstream.StreamConfig)) {
	f.t.Helper()
	s, err := f.root.Stream(f.t.Context(), stream)
	if err != nil {
		f.t.Fatal(err)
	}
	c := s.CachedInfo().Config
	change(&c)
	if _, err := f.root.UpdateStream(f.t.Context(), c); err != nil {
		f.t.Fatal(err)
	}
}

// wanted is everything that the catalogue has.
func wanted() (streams, consumers []string) {
	for _, s := range events.Topology.Streams {
		streams = append(streams, s.Name)
		for _, c := range s.Consumers {
			consumers = append(consumers, s.Name+"/"+c.Durable)
		}
	}
	for _, l := range events.Topology.Locks {
		streams = append(streams, l.Name)
	}
	for _, o := range events.Topology.Objects {
		streams = append(streams, o.Name)
	}
	return streams, consumers
}

func (f *topologyFleet) missing() (names []string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
	defer cancel()
	streams, consumers := wanted()
	for _, name := range streams {
		if _, err := f.root.Stream(ctx, name); errors.Is(err, jetstream.ErrStreamNotFound) {
			names = append(names, name)
		} else if err != nil {
			f.t.Fatal(err)
		}
	}
	for _, name := range consumers {
		stream, durable, _ := strings.Cut(name, "/")
		if _, err := f.root.Consumer(ctx, stream, durable); errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrNotPullConsumer) {
			names = append(names, name)
		} else if err != nil {
			f.t.Fatal(err)
		}
	}
	return names
}

func TestTopology_Apply(t *testing.T) {
	t.Parallel()
	f := newTopologyFleet(t)
	r := f.run("-o", "json")
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	var created []string
	for _, c := range f.changes(r) {
		if c.Action != eventbus.Created {
			t.Errorf("on an empty server: %+v", c)
		}
		created = append(created, c.Name)
	}
	streams, consumers := wanted()
	if diff := cmp.Diff(slices.Sorted(slices.Values(append(streams, consumers...))), slices.Sorted(slices.Values(created))); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	if names := f.missing(); len(names) != 0 {
		t.Errorf("missing: %v", names)
	}
	if r := f.run(); r.code != 0 || r.out != "" || !strings.Contains(r.err, "nothing to do") {
		t.Errorf("a second time: %+v", r)
	}
}

// Whatever somebody changed is named and put right.
func TestTopology_Drift(t *testing.T) {
	t.Parallel()
	f := newTopologyFleet(t)
	if r := f.run(); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	const copied = "seaworthy.copy"
	for field, drift := range map[string]func(*jetstream.StreamConfig){
		"RePublish": func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: events.SubjectImagePushed, Destination: copied}
		},
		"Sources": func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{{Name: events.StreamAudit}} },
		"SubjectTransform": func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: copied, Destination: events.SubjectImagePushed}
		},
		"Subjects":    func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, copied) },
		"AllowDirect": func(c *jetstream.StreamConfig) { c.AllowDirect = true },
		"MaxBytes":    func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 },
		"AllowRollup": func(c *jetstream.StreamConfig) { c.AllowRollup = true },
		"NoAck":       func(c *jetstream.StreamConfig) { c.NoAck = true },
		"MaxMsgs":     func(c *jetstream.StreamConfig) { c.MaxMsgs = 1 },
		"Retention":   func(c *jetstream.StreamConfig) { c.Retention = jetstream.LimitsPolicy },
	} {
		f.update(events.StreamPushed, drift)
		r := f.run("-o", "json")
		changes := f.changes(r)
		if r.code != 0 || len(changes) != 1 || changes[0].Name != events.StreamPushed || changes[0].Action != eventbus.Updated || !slices.Contains(changes[0].Fields, field) {
			t.Errorf("%s: %+v", field, r)
		}
	}
	if r := f.run(); !strings.Contains(r.err, "nothing to do") {
		t.Errorf("something is left: %+v", r)
	}

	// A mirror under the name of a stream is put right too. A consumer that delivers to
	// a subject cannot be changed into the right one, and messages may wait in it: that
	// is said, and the others are put right all the same.
	if err := f.root.DeleteStream(t.Context(), events.StreamAttested); err != nil {
		t.Fatal(err)
	}
	if _, err := f.root.CreateStream(t.Context(), jetstream.StreamConfig{Name: events.StreamAttested, Mirror: &jetstream.StreamSource{Name: events.StreamAudit}}); err != nil {
		t.Fatal(err)
	}
	if err := f.root.DeleteConsumer(t.Context(), events.StreamPushed, events.ConsumerScannerScan); err != nil {
		t.Fatal(err)
	}
	if _, err := f.root.CreatePushConsumer(t.Context(), events.StreamPushed, jetstream.ConsumerConfig{
		Durable: events.ConsumerScannerScan, DeliverSubject: copied, FilterSubject: events.SubjectImagePushed,
	}); err != nil {
		t.Fatal(err)
	}
	r := f.run("-o", "json")
	if r.code == 0 || !strings.Contains(r.err, events.ConsumerScannerScan) {
		t.Errorf("a consumer that delivers: %+v", r)
	}
	if changes := f.changes(r); !slices.ContainsFunc(changes, func(c change) bool {
		return c.Name == events.StreamAttested && c.Action == eventbus.Updated && slices.Contains(c.Fields, "Mirror")
	}) {
		t.Errorf("a mirror: %+v", changes)
	}
	if names := f.missing(); len(names) != 1 || names[0] != events.StreamPushed+"/"+events.ConsumerScannerScan {
		t.Errorf("missing: %v", names)
	}
}

// topology --watch makes again what is lost and undoes what is changed, and says so.
func TestTopology_Watch(t *testing.T) {
	t.Parallel()
	f := newTopologyFleet(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan result, 1)
	go func() { ended <- runWith(ctx, fleetcontext.Places{}, append(slices.Clone(f.args), "--watch")...) }()
	eventually := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("never: %s", what)
			}
		}
	}
	complete := func() bool { return len(f.missing()) == 0 }
	eventually("everything is made", complete)
	if err := f.root.DeleteStream(t.Context(), events.StreamVerdicts); err != nil {
		t.Fatal(err)
	}
	eventually("the stream is back, with its consumers", complete)
	if err := f.root.DeleteConsumer(t.Context(), events.StreamPushed, events.ConsumerScannerScan); err != nil {
		t.Fatal(err)
	}
	eventually("the consumer is back", complete)
	f.update(events.StreamPushed, func(c *jetstream.StreamConfig) {
		c.RePublish = &jetstream.RePublish{Source: ">", Destination: "seaworthy.copy.>"}
	})
	eventually("the copying ended", func() bool {
		s, err := f.root.Stream(t.Context(), events.StreamPushed)
		return err == nil && s.CachedInfo().Config.RePublish == nil
	})
	f.srv.Stop()
	f.srv.Wipe()
	f.srv.Start()
	eventually("everything is made on a new store", func() bool {
		_, err := f.root.Stream(t.Context(), events.StreamAudit)
		return err == nil && complete()
	})
	cancel()
	r := <-ended
	if r.code != 0 {
		t.Errorf("%+v", r)
	}
	for _, line := range []string{"topology changed", "topology drift repaired", "RePublish"} {
		if !strings.Contains(r.err, line) {
			t.Errorf("its log lacks %q:\n%s", line, r.err)
		}
	}
}

// Only the provisioner's certificate makes streams.
func TestTopology_Refused(t *testing.T) {
	t.Parallel()
	srv := newTopologyFleet(t).srv
	for _, id := range []string{tlsx.ServiceID(eventbustest.TrustDomain, events.Gateway), tlsx.OperatorID(eventbustest.TrustDomain, "root")} {
		if r := runWith(t.Context(), fleetcontext.Places{}, topologyArgs(srv, id)...); r.code != 4 || !strings.Contains(r.err, "service/topology") {
			t.Errorf("as %s: %+v", id, r)
		}
	}
	if r := runWith(t.Context(), fleetcontext.Places{}, "topology", "--nats", srv.URL()); r.code != 4 || !strings.Contains(r.err, "--certs") {
		t.Errorf("without a certificate: %+v", r)
	}
	if r := runWith(t.Context(), fleetcontext.Places{}, append(topologyArgs(srv, tlsx.ServiceID(eventbustest.TrustDomain, eventbus.Provisioner)), "--replicas", "2")...); r.code != 4 {
		t.Errorf("two replicas: %+v", r)
	}
}
