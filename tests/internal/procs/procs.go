// Package procs runs a fleet the way it is deployed: five processes, an external
// nats-server with its provisioner, PostgreSQL, and a registry, all on loopback. A test can kill each
// of them, start it again, and hold the requests between them.
package procs

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver that databases are made with

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/registryd"
	"github.com/seaworthy-dev/seaworthy/pkg/testkit/ports"
	"github.com/seaworthy-dev/seaworthy/tests/internal/gate"
	"github.com/seaworthy-dev/seaworthy/tests/internal/repo"
	"github.com/seaworthy-dev/seaworthy/tests/internal/subscriber"
)

// Services are the five, in the order of the way of a push.
var Services = []string{"gateway", "scanner", "signer", "verifier", "notifier"}

const (
	readyTimeout  = 60 * time.Second
	webhookSecret = "a-webhook-secret-for-the-tests-only-0123456789"
)

// Fleet is a running fleet.
type Fleet struct {
	// Dir holds certificates, configuration, logs and state.
	Dir string
	// Registry is where images are pushed: the gate in front of the registry.
	Registry *gate.Gate
	// Subscriber receives the notifications, behind a gate.
	Subscriber *subscriber.Subscriber
	// GatewayURL is where webhooks are received.
	GatewayURL string

	t       *testing.T
	root    string
	otlp    string
	ports   map[string]int // service → gRPC or HTTP
	admin   map[string]int
	nats    int
	ackWait time.Duration
	running map[string]*process
}

// Options choose what a test needs beside the fleet.
type Options struct {
	// OTLP is the endpoint that spans are exported to; empty exports none.
	OTLP string
	// AckWait is how long a killed service keeps a message; default 2 s.
	AckWait time.Duration
}

type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// Start starts a fleet and waits until every service is ready. The test is skipped
// if there is no PostgreSQL.
func Start(t *testing.T, o Options) *Fleet {
	t.Helper()
	dsn := database(t)
	root := repo.Root(t)
	for _, binary := range append([]string{"bin/seaworthyctl", ".bin/nats-server"}, binaries()...) {
		if _, err := os.Stat(filepath.Join(root, binary)); err != nil {
			t.Fatalf("%s is missing: run the tests by `make test`, which builds it", binary)
		}
	}
	f := &Fleet{
		t: t, Dir: t.TempDir(), root: root, otlp: o.OTLP,
		ports: map[string]int{}, admin: map[string]int{}, running: map[string]*process{},
	}
	for _, s := range Services {
		f.ports[s], f.admin[s] = ports.Free(t), ports.Free(t)
	}
	f.nats = ports.Free(t)
	f.GatewayURL = fmt.Sprintf("http://127.0.0.1:%d", f.ports["gateway"])
	f.run("certificates", "bin/seaworthyctl", "certs", "init", "--dir", f.path("certs"))
	f.startRegistry()
	f.Subscriber = subscriber.Start(t)
	if o.AckWait == 0 {
		o.AckWait = 2 * time.Second
	}
	f.ackWait = o.AckWait
	f.writeConfigs(dsn)
	f.writeContext()
	t.Cleanup(f.stop)
	f.StartProcess("nats")
	f.StartProcess("topology")
	for _, s := range Services {
		f.StartProcess(s)
	}
	for _, s := range Services {
		f.WaitReady(s)
	}
	return f
}

func binaries() []string {
	var all []string
	for _, s := range Services {
		all = append(all, "bin/"+s)
	}
	return all
}

// database makes a database of its own on the server of the tests.
func database(t *testing.T) string {
	t.Helper()
	dsn := os.Getenv("SEAWORTHY_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("SEAWORTHY_TEST_POSTGRES is not set: a fleet of processes needs PostgreSQL; `make test` starts one")
	}
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("fleet_%d", time.Now().UnixNano())
	if _, err := db.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The test's context has ended.
		_, err := db.ExecContext(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)")
		if err := errors.Join(err, db.Close()); err != nil {
			t.Error(err)
		}
	})
	before, after, found := strings.Cut(dsn, "/postgres")
	if !found {
		t.Fatalf("SEAWORTHY_TEST_POSTGRES must name the database postgres")
	}
	return before + "/" + name + after
}

func (f *Fleet) path(elem ...string) string {
	return filepath.Join(append([]string{f.Dir}, elem...)...)
}

func (f *Fleet) run(what, binary string, args ...string) {
	f.t.Helper()
	cmd := exec.CommandContext(f.t.Context(), filepath.Join(f.root, binary), args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		f.t.Fatalf("%s: %v\n%s", what, err, out)
	}
}

// startRegistry serves the real registry behind a gate. It notifies the gateway as
// registries do that know nothing of us: later, from a queue.
func (f *Fleet) startRegistry() {
	l, err := new(net.ListenConfig).Listen(f.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(f.t.Context()))
	registry, err := registryd.New(ctx, registryd.Config{
		Dir: f.path("registry"), Listener: l,
		NotifyURL: f.GatewayURL + "/webhooks/v1/distribution/tests", NotifySecret: webhookSecret, Queued: true,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- registry.Run(ctx) }()
	f.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("registry: %v", err)
		}
	})
	f.Registry = gate.New(f.t, l.Addr().String())
}

// StartProcess starts a service, "nats" or "topology", and does not wait for it.
func (f *Fleet) StartProcess(name string) {
	f.t.Helper()
	var cmd *exec.Cmd
	switch name {
	case "topology":
		cmd = exec.Command(filepath.Join(f.root, "bin/seaworthyctl"), "topology", "--watch",
			"--nats", fmt.Sprintf("nats://127.0.0.1:%d", f.nats), "--certs", f.path("certs"), "--ack-wait", f.ackWait.String())
	case "nats":
		cmd = exec.Command(filepath.Join(f.root, ".bin/nats-server"), "-c", filepath.Join(f.root, "deploy/nats/nats.conf"))
		cmd.Env = append(os.Environ(),
			fmt.Sprintf("SEAWORTHY_NATS_LISTEN=127.0.0.1:%d", f.nats), "SEAWORTHY_NATS_STORE_DIR="+f.path("nats"),
			"SEAWORTHY_NATS_CA_FILE="+f.path("certs", "ca.crt"), "SEAWORTHY_NATS_CERT_FILE="+f.path("certs", "nats.crt"),
			"SEAWORTHY_NATS_KEY_FILE="+f.path("certs", "nats.key"))
	default:
		cmd = exec.Command(filepath.Join(f.root, "bin", name), "--config", f.path(name+".yaml"))
	}
	log, err := os.OpenFile(f.path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		f.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		f.t.Fatalf("start %s: %v", name, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // killed processes end with an error
		_ = log.Close()
	}()
	f.running[name] = p
}

// Kill ends a process with SIGKILL: it can clean up nothing.
func (f *Fleet) Kill(name string) { f.signal(name, syscall.SIGKILL, true) }

// Stop ends a process with SIGTERM and waits for it.
func (f *Fleet) Stop(name string) { f.signal(name, syscall.SIGTERM, true) }

// Freeze stops a process in its tracks (SIGSTOP); Thaw lets it go on.
func (f *Fleet) Freeze(name string) { f.signal(name, syscall.SIGSTOP, false) }

// Thaw ends Freeze.
func (f *Fleet) Thaw(name string) { f.signal(name, syscall.SIGCONT, false) }

func (f *Fleet) signal(name string, sig syscall.Signal, ends bool) {
	f.t.Helper()
	p := f.running[name]
	if p == nil {
		f.t.Fatalf("%s does not run", name)
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		f.t.Fatalf("signal %s: %v", name, err)
	}
	if ends {
		<-p.done
		delete(f.running, name)
	}
}

func (f *Fleet) stop() {
	for name := range f.running {
		f.Kill(name)
	}
	if !f.t.Failed() {
		return
	}
	for _, name := range append([]string{"nats", "topology"}, Services...) {
		log, err := os.ReadFile(f.path(name + ".log"))
		if err != nil {
			continue
		}
		lines := bytes.Split(log, []byte("\n"))
		f.t.Logf("the last lines of %s:\n%s", name, bytes.Join(lines[max(0, len(lines)-25):], []byte("\n")))
	}
}

// WaitReady waits until a service says that it is ready.
func (f *Fleet) WaitReady(name string) {
	f.t.Helper()
	url := fmt.Sprintf("http://127.0.0.1:%d/readyz", f.admin[name])
	f.WaitFor(readyTimeout, name+" is ready", func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz answers %d", resp.StatusCode)
		}
		return nil
	})
}

// WaitFor asks until ok returns nil, and fails the test with its last error.
func (f *Fleet) WaitFor(timeout time.Duration, what string, ok func(context.Context) error) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), timeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			f.t.Fatalf("waited %s until %s: %v", timeout, what, err)
		case <-tick.C:
		}
	}
}

// Metrics reads a service's metrics in the Prometheus text format.
func (f *Fleet) Metrics(ctx context.Context, name string) ([]byte, error) {
	url := fmt.Sprintf("http://127.0.0.1:%d/metrics", f.admin[name])
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// Webhook sends a body to the gateway as the registry would and returns the status.
func (f *Fleet) Webhook(ctx context.Context, body string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.GatewayURL+"/webhooks/v1/distribution/tests", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+webhookSecret)
	req.Header.Set("Content-Type", "application/vnd.docker.distribution.events.v2+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}

// Ctl runs seaworthyctl against the fleet and returns its output and exit code.
func (f *Fleet) Ctl(args ...string) (stdout string, code int) {
	f.t.Helper()
	cmd := exec.CommandContext(f.t.Context(), filepath.Join(f.root, "bin/seaworthyctl"), args...)
	cmd.Env = append(os.Environ(), "SEAWORTHY_CONTEXT="+f.path("context.yaml"))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		f.t.Fatalf("seaworthyctl %v: %v", args, err)
	}
	if errs.Len() > 0 {
		f.t.Logf("seaworthyctl %v: %s", args, bytes.TrimSpace(errs.Bytes()))
	}
	return string(out), cmd.ProcessState.ExitCode()
}
