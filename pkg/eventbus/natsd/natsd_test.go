package natsd_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
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

// Streams of a release that had no accounts are found again in the account that holds
// them now, with what waits in them; nothing that is there already is touched.
func TestStart_AdoptsAnEarlierStore(t *testing.T) {
	root := natsd.User{ID: tlsx.OperatorID("seaworthy.local", "root"), Account: eventbus.Account, Pub: []string{">"}, Sub: []string{">"}}
	messages := func(t *testing.T, cfg natsd.Config, use func(jetstream.JetStream)) {
		t.Helper()
		s, err := natsd.Start(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Shutdown()
		dir := t.TempDir()
		ca, err := tlsx.LoadOrCreateCA(filepath.Dir(cfg.StoreDir))
		if err != nil {
			t.Fatal(err)
		}
		issued, err := ca.Issue(dir, "root", root.ID, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		src, err := tlsx.NewSource(issued)
		if err != nil {
			t.Fatal(err)
		}
		closed := make(chan struct{})
		nc, err := nats.Connect(s.URL(), nats.Secure(src.Client(tlsx.ServiceID("seaworthy.local", "nats"))), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { nc.Close(); <-closed }()
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		use(js)
	}
	prepare := func(t *testing.T) (cfg natsd.Config, before, now string) {
		t.Helper()
		dir := t.TempDir()
		ca, err := tlsx.LoadOrCreateCA(dir)
		if err != nil {
			t.Fatal(err)
		}
		issued, err := ca.Issue(dir, "nats", tlsx.ServiceID("seaworthy.local", "nats"), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		src, err := tlsx.NewSource(issued)
		if err != nil {
			t.Fatal(err)
		}
		store := filepath.Join(dir, "store")
		return natsd.Config{StoreDir: store, TLS: src, Users: []natsd.User{root}},
			filepath.Join(store, "jetstream", "$G"), filepath.Join(store, "jetstream", eventbus.Account)
	}
	publish := func(t *testing.T, text string) func(jetstream.JetStream) {
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
