package events_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/eventbustest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/events/eventstest"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

var update = flag.Bool("update", false, "write deploy/nats/nats.conf")

const shipped = "../../deploy/nats/nats.conf"

// The file that we ship is the one that the catalogue gives.
func TestServerConfig_Shipped(t *testing.T) {
	want := events.ServerConfig(eventbustest.TrustDomain, eventstest.OperatorName)
	if *update {
		if err := os.WriteFile(shipped, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(shipped)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s is not what the catalogue gives; run with -update (-want +got):\n%s", shipped, diff)
	}
}

// A real server takes the shipped file, and the whole fleet works with it.
func TestServerConfig_Runs(t *testing.T) {
	srv, tlsOf := startShipped(t)
	cfg := eventbus.Config{URL: "nats://" + srv.Addr().String()}
	connect := func(service, id string) *eventbus.Bus {
		b, err := events.Connect(t.Context(), cfg, service, tlsOf(id), obs.Discard(service))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close(context.Background()) })
		return b
	}
	buses := map[string]*eventbus.Bus{}
	ensured := make(chan error, 10)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, s := range append(events.Topology.Services(), eventbus.Provisioner) {
		buses[s] = connect(s, tlsx.ServiceID(eventbustest.TrustDomain, s))
		go func() { ensured <- buses[s].Ensure(ctx) }()
	}
	for range buses {
		if err := <-ensured; err != nil {
			t.Fatal(err)
		}
	}
	if err := events.Publish(ctx, buses[events.Gateway], "id", &eventv1.ImagePushedEvent{}); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	stop, cancelConsume := context.WithCancel(ctx)
	consumed := make(chan error, 1)
	go func() {
		consumed <- events.Consume(stop, buses[events.Scanner], events.ConsumerScannerScan, 1,
			func(_ context.Context, e *eventv1.ImagePushedEvent, _ *eventbus.Delivery) error {
				got <- e.GetMeta().GetEventId()
				return nil
			})
	}()
	select {
	case id := <-got:
		if id != "id" {
			t.Errorf("event id is %q", id)
		}
	case <-ctx.Done():
		t.Error("the event did not come")
	}
	cancelConsume()
	if err := <-consumed; err != nil {
		t.Error(err)
	}
	operator := connect(eventbus.Operator, tlsx.OperatorID(eventbustest.TrustDomain, eventstest.OperatorName))
	if list, err := events.WaitingDeadLetters(ctx, operator, 0, 10); err != nil || len(list) != 0 {
		t.Errorf("dead letters: %v, %v", list, err)
	}
}

// startShipped runs a server with the file that we ship, and a root user for looking
// at its state.
func startShipped(t *testing.T) (*server.Server, func(id string) *tlsx.Source) {
	t.Helper()
	dir := t.TempDir()
	ca, err := tlsx.LoadOrCreateCA(filepath.Join(dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	issue := func(id string) tlsx.Config {
		cfg, err := ca.Issue(filepath.Join(dir, "tls"), strings.ReplaceAll(strings.TrimPrefix(id, "spiffe://"), "/", "-"), id, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	nats := issue(tlsx.ServiceID(eventbustest.TrustDomain, eventbus.Server))
	for name, value := range map[string]string{
		"SEAWORTHY_NATS_LISTEN": `"127.0.0.1:-1"`, "SEAWORTHY_NATS_STORE_DIR": filepath.Join(dir, "store"),
		"SEAWORTHY_NATS_CA_FILE": nats.CAFile, "SEAWORTHY_NATS_CERT_FILE": nats.CertFile, "SEAWORTHY_NATS_KEY_FILE": nats.KeyFile,
	} {
		t.Setenv(name, value)
	}
	opts, err := server.ProcessConfigFile(shipped)
	if err != nil {
		t.Fatalf("the server refuses %s: %v", shipped, err)
	}
	for _, a := range opts.Accounts {
		if a.GetName() == eventbus.Account {
			opts.Users = append(opts.Users, &server.User{Username: rootID, Account: a})
		}
	}
	opts.NoSigs, opts.NoLog = true, true
	srv, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	go srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("server is not ready")
	}
	return srv, func(id string) *tlsx.Source {
		src, err := tlsx.NewSource(issue(id))
		if err != nil {
			t.Fatal(err)
		}
		return src
	}
}
