package service

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/natsd"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/testkit/output"
	"github.com/seaworthy-dev/seaworthy/pkg/testkit/ports"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

const (
	testDomain = "seaworthy.local"
	// testWait bounds waiting for what should happen soon.
	testWait = 20 * time.Second
)

func TestMain(m *testing.M) {
	if runAsChild() {
		return
	}
	goleak.VerifyTestMain(m)
}

// testConfig is a service's configuration with the common part and a key of its own.
type testConfig struct {
	Config `yaml:",inline"`
	Color  string `yaml:"color"`
}

// Validate is the part that belongs to the service.
func (c *testConfig) Validate(p *config.Problems) {
	switch c.Color {
	case "grey":
	case "red":
		p.Warnf("color", "is hard to read")
	default:
		p.Errorf("color", "%q is neither grey nor red", c.Color)
	}
}

// testApp runs a function.
type testApp func(ctx context.Context) error

func (a testApp) Run(ctx context.Context) error { return a(ctx) }

func untilStopped(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func definition(newApp func(Deps) (App, error)) Definition[testConfig] {
	return Definition[testConfig]{
		Name:          "scanner",
		Default:       func() testConfig { return testConfig{Config: DefaultConfig("scanner"), Color: "grey"} },
		Common:        func(c *testConfig) *Config { return &c.Config },
		NeedsDatabase: true,
		New:           func(_ context.Context, _ testConfig, d Deps) (App, error) { return newApp(d) },
	}
}

// fixture is one service and the things around it, which the test starts when
// it wants to.
type fixture struct {
	t      *testing.T
	dir    string
	ca     *tlsx.CA
	cfg    testConfig
	admin  net.Listener
	logs   *output.Buffer
	cancel context.CancelFunc
	ready  chan struct{}
	result chan error
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir(), logs: &output.Buffer{}, ready: make(chan struct{}), result: make(chan error, 1)}
	var err error
	if f.ca, err = tlsx.LoadOrCreateCA(filepath.Join(f.dir, "ca")); err != nil {
		t.Fatal(err)
	}
	if f.admin, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	f.cfg = testConfig{Config: DefaultConfig("scanner"), Color: "grey"}
	f.cfg.TLS = f.issue("scanner")
	f.cfg.Database = sqldb.Config{Driver: sqldb.SQLite, DSN: filepath.Join(f.dir, "scanner.db")}
	f.cfg.NATS.URL = "nats://127.0.0.1:" + strconv.Itoa(ports.Free(t))
	f.cfg.StopTimeout = 10 * time.Second
	return f
}

func (f *fixture) issue(name string) tlsx.Config {
	f.t.Helper()
	cfg, err := f.ca.Issue(filepath.Join(f.dir, "tls"), name, tlsx.ServiceID(testDomain, name), time.Hour)
	if err != nil {
		f.t.Fatal(err)
	}
	return cfg
}

// startNATS starts the server at the address that the service is configured with.
func (f *fixture) startNATS() {
	f.t.Helper()
	src, err := tlsx.NewSource(f.issue("nats"))
	if err != nil {
		f.t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(f.cfg.NATS.URL[len("nats://"):])
	if err != nil {
		f.t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		f.t.Fatal(err)
	}
	s, err := natsd.Start(natsd.Config{StoreDir: filepath.Join(f.dir, "nats"), Port: n, TLS: src, Users: events.Users(testDomain)})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(s.Shutdown)
}

// provision makes the streams, as the provisioner of a fleet does.
func (f *fixture) provision() {
	f.t.Helper()
	src, err := tlsx.NewSource(f.issue(eventbus.Provisioner))
	if err != nil {
		f.t.Fatal(err)
	}
	bus, err := events.Connect(f.t.Context(), f.cfg.NATS, eventbus.Provisioner, src, obs.Discard(eventbus.Provisioner))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := bus.Close(ctx); err != nil {
			f.t.Errorf("close the provisioner's bus: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	if err := bus.Ensure(ctx); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) run(d Definition[testConfig]) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.t.Context())
	f.cancel = cancel
	go func() {
		f.result <- Run(ctx, d, f.cfg, RunOptions{Logs: f.logs, AdminListener: f.admin, OnReady: func() { close(f.ready) }})
	}()
	f.t.Cleanup(cancel)
}

// stopped is the result of Run.
func (f *fixture) stopped() error {
	f.t.Helper()
	select {
	case err := <-f.result:
		return err
	case <-time.After(testWait):
		f.t.Fatalf("the service did not stop; log:\n%s", f.logs)
		return nil
	}
}

func (f *fixture) waitReady() {
	f.t.Helper()
	select {
	case <-f.ready:
	case err := <-f.result:
		f.t.Fatalf("the service ended: %v; log:\n%s", err, f.logs)
	case <-time.After(testWait):
		f.t.Fatalf("the service did not become ready: %v; log:\n%s", f.readyz().Components, f.logs)
	}
}

type readyzBody struct {
	Code       int
	Ready      bool
	Components map[string]string
}

func (f *fixture) readyz() readyzBody {
	f.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testWait}
	res, err := client.Get("http://" + f.admin.Addr().String() + "/readyz")
	if err != nil {
		f.t.Fatal(err)
	}
	defer res.Body.Close()
	body := readyzBody{Code: res.StatusCode}
	if err := json.NewDecoder(res.Body).Decode(&body); err != nil {
		f.t.Fatal(err)
	}
	return body
}

// adminStatus asks the admin server by a name, as a page of an origin would.
func (f *fixture) adminStatus(host, origin string) int {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, "http://"+f.admin.Addr().String()+"/metrics", nil)
	if err != nil {
		f.t.Fatal(err)
	}
	req.Host = host
	if origin != "" {
		req.Header.Set("Origin", origin)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testWait}
	res, err := client.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode
}

// eventually asks cond until it is true.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(testWait)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// proxy forwards connections to addr, from a port that was refused before. The
// returned function cuts them all.
func proxy(t *testing.T, port int, addr string) (cut func()) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		conns []net.Conn
	)
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", addr)
			if err != nil {
				in.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, in, out)
			mu.Unlock()
			wg.Go(func() { io.Copy(out, in); out.Close() })
			wg.Go(func() { io.Copy(in, out); in.Close() })
		}
	})
	cut = sync.OnceFunc(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	t.Cleanup(cut)
	return cut
}

func query(db *sql.DB) error {
	var one int
	if err := db.QueryRow("SELECT 1").Scan(&one); err != nil || one != 1 {
		return errors.Join(errors.New("the database does not answer"), err)
	}
	return nil
}
