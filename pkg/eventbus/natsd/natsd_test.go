package natsd_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

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

func ExampleStart() {
	// A server that would let in everybody does not start.
	_, err := natsd.Start(natsd.Config{StoreDir: os.TempDir()})
	fmt.Println(err)
	// Output: embedded NATS: no TLS source
}
