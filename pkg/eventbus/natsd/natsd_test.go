package natsd_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/natsd"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func source(tb testing.TB) *tlsx.Source {
	tb.Helper()
	dir := tb.TempDir()
	ca, err := tlsx.LoadOrCreateCA(dir)
	if err != nil {
		tb.Fatal(err)
	}
	cfg, err := ca.Issue(dir, "nats", tlsx.ServiceID("seaworthy.local", "nats"), time.Hour)
	if err != nil {
		tb.Fatal(err)
	}
	src, err := tlsx.NewSource(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return src
}

func config(tb testing.TB) natsd.Config {
	tb.Helper()
	return natsd.Config{
		StoreDir: filepath.Join(tb.TempDir(), "store"), TLS: source(tb),
		Users: []natsd.User{{ID: tlsx.ServiceID("seaworthy.local", "scanner"), Account: "SCANNER", Sub: []string{"_INBOX_scanner.>"}}},
	}
}

func TestStart_Refuses(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*natsd.Config)
		want   string
	}{
		"no TLS":       {func(c *natsd.Config) { c.TLS = nil }, "TLS"},
		"no store":     {func(c *natsd.Config) { c.StoreDir = "" }, "store"},
		"no users":     {func(c *natsd.Config) { c.Users = nil }, "users"},
		"no account":   {func(c *natsd.Config) { c.Users[0].Account = "" }, "account"},
		"port in use":  {func(c *natsd.Config) { c.Port = busy.Addr().(*net.TCPAddr).Port }, "address already in use"},
		"store a file": {func(c *natsd.Config) { c.StoreDir = file }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			c.change(&cfg)
			began := time.Now()
			s, err := natsd.Start(cfg)
			if err == nil {
				s.Shutdown()
				t.Fatal("started")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want %q", err, c.want)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("took %v to say so", took)
			}
		})
	}
}

func TestStart_TwoInOneProcess(t *testing.T) {
	urls := map[string]bool{}
	for range 2 {
		s, err := natsd.Start(config(t))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Shutdown()
		if want := fmt.Sprintf("nats://127.0.0.1:%d", s.Port()); s.URL() != want {
			t.Errorf("URL is %s, want %s", s.URL(), want)
		}
		urls[s.URL()] = true
	}
	if len(urls) != 2 {
		t.Errorf("servers share an address: %v", urls)
	}
}

var root = natsd.User{ID: tlsx.OperatorID("seaworthy.local", "root"), Account: eventbus.Account, Pub: []string{">"}, Sub: []string{">"}}

// rootConfig is that of a server that knows root, with a store beside its authority.
func rootConfig(t *testing.T) natsd.Config {
	t.Helper()
	dir := t.TempDir()
	return natsd.Config{
		StoreDir: filepath.Join(dir, "store"), TLS: issue(t, dir, tlsx.ServiceID("seaworthy.local", "nats")), Users: []natsd.User{root},
	}
}

func issue(t *testing.T, dir, id string) *tlsx.Source {
	t.Helper()
	ca, err := tlsx.LoadOrCreateCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := ca.Issue(t.TempDir(), "issued", id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	src, err := tlsx.NewSource(issued)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// connectRoot connects to a server of rootConfig.
func connectRoot(t *testing.T, cfg natsd.Config, s *natsd.Server) (js jetstream.JetStream, done func()) {
	t.Helper()
	src := issue(t, filepath.Dir(cfg.StoreDir), root.ID)
	closed := make(chan struct{})
	nc, err := nats.Connect(s.URL(), nats.Secure(src.Client(tlsx.ServiceID("seaworthy.local", "nats"))),
		nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err != nil {
		t.Fatal(err)
	}
	if js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	return js, func() { nc.Close(); <-closed }
}

// limitFiles lets no file of this process grow over a size, until it is undone.
func limitFiles(t *testing.T, size uint64) (undo func()) {
	t.Helper()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGXFSZ) // which ends the process otherwise
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	set := func(limit syscall.Rlimit) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			t.Error(err)
		}
	}
	set(syscall.Rlimit{Cur: size, Max: before.Max})
	undo = sync.OnceFunc(func() { set(before); signal.Stop(signals) })
	t.Cleanup(undo)
	return undo
}

// TestKeep_AfterAFullDisk refuses writes for a moment, as a full disk does. NATS itself
// never writes to the stream again.
func TestKeep_AfterAFullDisk(t *testing.T) {
	cfg := rootConfig(t)
	s, err := natsd.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	js, done := connectRoot(t, cfg, s)
	defer done()
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "PUSHED", Subjects: []string{"pushed"}})
	if err != nil {
		t.Fatal(err)
	}
	publish := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := js.Publish(ctx, "pushed", make([]byte, 1<<19))
		return err
	}
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	stored := uint64(1)
	grow := limitFiles(t, 4<<20)
	for publish() == nil {
		if stored++; stored > 100 {
			t.Fatal("files grow in spite of the limit")
		}
	}
	grow()
	if publish() == nil {
		t.Error("NATS recovers by itself: Keep is not needed any more")
	}

	ctx, cancel := context.WithCancel(t.Context())
	kept := make(chan error, 1)
	go func() { kept <- s.Keep(ctx) }()
	defer func() {
		cancel()
		if err := <-kept; err != nil {
			t.Error(err)
		}
	}()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if err = publish(); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the stream stays broken: %v", err)
		}
	}
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs < stored+1 {
		t.Errorf("%d messages, %d were acknowledged", info.State.Msgs, stored+1)
	}
}

// Streams of a release that had no accounts are found again in the account that holds
// them now, with what waits in them; nothing that is there already is touched.
func TestStart_AdoptsAnEarlierStore(t *testing.T) {
	messages := func(t *testing.T, cfg natsd.Config, use func(jetstream.JetStream)) {
		t.Helper()
		s, err := natsd.Start(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Shutdown()
		js, done := connectRoot(t, cfg, s)
		defer done()
		use(js)
	}
	prepare := func(t *testing.T) (cfg natsd.Config, before, now string) {
		t.Helper()
		cfg = rootConfig(t)
		return cfg, filepath.Join(cfg.StoreDir, "jetstream", "$G"), filepath.Join(cfg.StoreDir, "jetstream", eventbus.Account)
	}
	publish := func(t *testing.T, text string) func(jetstream.JetStream) {
		t.Helper()
		return func(js jetstream.JetStream) {
			t.Helper()
			if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "PUSHED", Subjects: []string{"pushed"}}); err != nil {
				t.Fatal(err)
			}
			if _, err := js.Publish(t.Context(), "pushed", []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	holds := func(t *testing.T, text string) func(jetstream.JetStream) {
		t.Helper()
		return func(js jetstream.JetStream) {
			t.Helper()
			s, err := js.Stream(t.Context(), "PUSHED")
			if err != nil {
				t.Fatal(err)
			}
			m, err := s.GetMsg(t.Context(), 1)
			if err != nil || string(m.Data) != text {
				t.Errorf("the stream holds %v, %v, want %q", m, err, text)
			}
		}
	}
	exists := func(path string) bool { _, err := os.Stat(path); return err == nil }

	t.Run("earlier", func(t *testing.T) {
		cfg, before, now := prepare(t)
		messages(t, cfg, publish(t, "waits"))
		if err := os.Rename(now, before); err != nil { // as the earlier release left it
			t.Fatal(err)
		}
		messages(t, cfg, holds(t, "waits"))
		if exists(before) {
			t.Error("the directory of the earlier release is still there")
		}
		messages(t, cfg, holds(t, "waits"))
	})
	t.Run("both", func(t *testing.T) {
		cfg, before, _ := prepare(t)
		messages(t, cfg, publish(t, "now"))
		kept := filepath.Join(before, "streams", "OTHER", "kept")
		if err := os.MkdirAll(filepath.Dir(kept), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(kept, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		messages(t, cfg, holds(t, "now"))
		if !exists(kept) {
			t.Error("what the earlier release left was removed")
		}
	})
	t.Run("neither", func(t *testing.T) {
		cfg, before, _ := prepare(t)
		messages(t, cfg, publish(t, "new"))
		messages(t, cfg, holds(t, "new"))
		if exists(before) {
			t.Error("a directory was made for an account without streams")
		}
	})
	t.Run("cannot be moved", func(t *testing.T) {
		cfg, before, now := prepare(t)
		if err := os.MkdirAll(before, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("nowhere", now); err != nil {
			t.Fatal(err)
		}
		if s, err := natsd.Start(cfg); err == nil {
			s.Shutdown()
			t.Error("started on an empty store beside one that it could not move")
		}
	})
}

func ExampleStart() {
	// A server that would let in everybody does not start.
	_, err := natsd.Start(natsd.Config{StoreDir: os.TempDir()})
	fmt.Println(err)
	// Output: embedded NATS: no TLS source
}
