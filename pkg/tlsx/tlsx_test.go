package tlsx

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const domain = "seaworthy.local"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newCA(t *testing.T) *CA {
	t.Helper()
	ca, err := LoadOrCreateCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t *testing.T, ca *CA, id string) Config {
	t.Helper()
	cfg, err := ca.Issue(t.TempDir(), "it", id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func source(t *testing.T, cfg Config, o ...Option) *Source {
	t.Helper()
	s, err := NewSource(cfg, o...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// handshake connects both configurations and returns what each side says. In
// TLS 1.3 the client's handshake ends before the server has judged it, so the
// client's error includes that of its first read.
func handshake(t *testing.T, server, client *tls.Config) (peers [2]string, serverErr, clientErr error) {
	t.Helper()
	a, b := net.Pipe()
	deadline := time.Now().Add(10 * time.Second)
	_, _ = a.SetDeadline(deadline), b.SetDeadline(deadline)
	var wg sync.WaitGroup
	wg.Go(func() {
		conn := tls.Server(a, server)
		if serverErr = conn.Handshake(); serverErr == nil {
			peers[0], _ = PeerID(conn.ConnectionState())
			_, serverErr = conn.Write([]byte("x"))
		}
		_ = a.Close()
	})
	conn := tls.Client(b, client)
	if clientErr = conn.Handshake(); clientErr == nil {
		peers[1], _ = PeerID(conn.ConnectionState())
		_, clientErr = io.ReadFull(conn, make([]byte, 1))
	}
	_ = b.Close()
	wg.Wait()
	return peers, serverErr, clientErr
}

func TestMutualTLS(t *testing.T) {
	t.Parallel()
	ca, other := newCA(t), newCA(t)
	scannerID, signerID := ServiceID(domain, "scanner"), ServiceID(domain, "signer")
	server := source(t, issue(t, ca, scannerID))
	client := source(t, issue(t, ca, signerID))
	stranger := source(t, issue(t, other, signerID))
	foreign := source(t, issue(t, ca, ServiceID("elsewhere.local", "signer")))

	t.Run("good", func(t *testing.T) {
		t.Parallel()
		peers, serverErr, clientErr := handshake(t, server.Server(), client.Client(scannerID))
		if serverErr != nil || clientErr != nil {
			t.Fatalf("server %v, client %v", serverErr, clientErr)
		}
		if peers != [2]string{signerID, scannerID} {
			t.Errorf("peers = %v", peers)
		}
	})
	t.Run("several names", func(t *testing.T) {
		t.Parallel()
		if _, serverErr, clientErr := handshake(t, server.Server(), client.ClientFor(signerID, scannerID)); serverErr != nil || clientErr != nil {
			t.Fatalf("server %v, client %v", serverErr, clientErr)
		}
	})

	tls12 := client.Client(scannerID)
	tls12.MinVersion, tls12.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	noCert := client.Client(scannerID)
	noCert.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	for _, tc := range []struct {
		name           string
		server, client *tls.Config
		want           string // in either side's error
	}{
		{"wrong peer id", server.Server(), client.Client(signerID), "the server is " + scannerID},
		{"no peer id named", server.Server(), client.ClientFor(), "the server is " + scannerID},
		{"client of another CA", server.Server(), stranger.Client(scannerID), "unknown authority"},
		{"server of another CA", stranger.Server(), client.Client(signerID), "unknown authority"},
		{"no client certificate", server.Server(), noCert, "didn't provide a certificate"},
		{"TLS 1.2", server.Server(), tls12, "protocol version"},
		{"client of another trust domain", server.Server(), foreign.Client(scannerID), "not of trust domain"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, serverErr, clientErr := handshake(t, tc.server, tc.client)
			if clientErr == nil {
				t.Fatal("the client got through")
			}
			if both := fmt.Sprintf("%v / %v", serverErr, clientErr); !strings.Contains(both, tc.want) {
				t.Errorf("errors %s, want %q in them", both, tc.want)
			}
		})
	}
}

func TestNewSource_refusesBadFiles(t *testing.T) {
	t.Parallel()
	ca, other := newCA(t), newCA(t)
	good := issue(t, ca, ServiceID(domain, "scanner"))
	second := issue(t, ca, ServiceID(domain, "signer"))
	write := func(content string) string {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tc := range []struct {
		name string
		cfg  Config
		now  time.Time
		want string
	}{
		{name: "nothing set", cfg: Config{}, want: "ca_file is not set"},
		{name: "no CA", cfg: Config{CertFile: good.CertFile, KeyFile: good.KeyFile}, want: "ca_file is not set"},
		{name: "missing file", cfg: Config{good.CAFile, good.CertFile + "x", good.KeyFile}, want: "read cert_file"},
		{name: "empty CA", cfg: Config{write(""), good.CertFile, good.KeyFile}, want: "no PEM certificate"},
		{name: "key as CA", cfg: Config{good.KeyFile, good.CertFile, good.KeyFile}, want: "is not a certificate"},
		{name: "key of another", cfg: Config{good.CAFile, good.CertFile, second.KeyFile}, want: "private key does not match"},
		{name: "other CA", cfg: Config{other.CertFile(), good.CertFile, good.KeyFile}, want: "not valid under"},
		{name: "expired", cfg: good, now: time.Now().Add(2 * time.Hour), want: "expired"},
		{name: "too large", cfg: Config{write(strings.Repeat("x", maxFileSize+1)), good.CertFile, good.KeyFile}, want: "larger than"},
		{name: "no SPIFFE ID", cfg: Config{ca.CertFile(), ca.CertFile(), filepath.Join(filepath.Dir(ca.CertFile()), "ca.key")}, want: ErrNoIdentity.Error()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var o []Option
			if !tc.now.IsZero() {
				o = append(o, WithClock(func() time.Time { return tc.now }))
			}
			_, err := NewSource(tc.cfg, o...)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("NewSource() = %v, want %q", err, tc.want)
			}
		})
	}
}

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }

func (c *clock) add(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.t = c.t.Add(d) }

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSource_reload(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	id := ServiceID(domain, "scanner")
	cfg, renewed, stranger := issue(t, ca, id), issue(t, ca, id), issue(t, ca, ServiceID(domain, "signer"))
	var logs bytes.Buffer
	c := &clock{t: time.Now()}
	s := source(t, cfg, WithClock(c.now), WithLogger(slog.New(slog.NewTextHandler(&logs, nil))))
	serial := func() string { return s.refreshed().cert.Leaf.SerialNumber.String() }
	first := serial()

	copyFile(t, renewed.CertFile, cfg.CertFile)
	if serial() != first {
		t.Error("the files were looked at again within a second")
	}
	c.add(lookInterval)
	if serial() != first {
		t.Error("a certificate without its key was taken")
	}
	if !strings.Contains(logs.String(), "certificate files refused") {
		t.Errorf("the refused files were not logged: %s", logs.String())
	}
	lines := strings.Count(logs.String(), "\n")
	c.add(lookInterval)
	serial()
	if n := strings.Count(logs.String(), "\n"); n != lines {
		t.Errorf("the same refused files were logged again: %s", logs.String())
	}
	copyFile(t, renewed.KeyFile, cfg.KeyFile)
	c.add(lookInterval)
	if serial() == first {
		t.Error("the renewed pair was not taken")
	}

	second := serial()
	copyFile(t, stranger.CertFile, cfg.CertFile)
	copyFile(t, stranger.KeyFile, cfg.KeyFile)
	c.add(lookInterval)
	if serial() != second || s.ID() != id {
		t.Error("a pair of another identity was taken")
	}
	if err := os.Remove(cfg.CertFile); err != nil {
		t.Fatal(err)
	}
	c.add(lookInterval)
	if serial() != second {
		t.Error("the pair was lost with its file")
	}
}

func TestSource_newCA(t *testing.T) {
	t.Parallel()
	old, next := newCA(t), newCA(t)
	id, peer := ServiceID(domain, "scanner"), ServiceID(domain, "signer")
	cfg := issue(t, old, id)
	bundle := filepath.Join(t.TempDir(), "bundle.crt")
	copyFile(t, old.CertFile(), bundle)
	cfg.CAFile = bundle
	c := &clock{t: time.Now()}
	server := source(t, cfg, WithClock(c.now))
	clientCfg := issue(t, next, peer)
	both, err := os.ReadFile(old.CertFile())
	if err != nil {
		t.Fatal(err)
	}
	added, err := os.ReadFile(next.CertFile())
	if err != nil {
		t.Fatal(err)
	}
	both = append(both, added...)
	clientCfg.CAFile = filepath.Join(t.TempDir(), "both.crt")
	if err := os.WriteFile(clientCfg.CAFile, both, 0o600); err != nil {
		t.Fatal(err)
	}
	client := source(t, clientCfg)

	if _, _, err := handshake(t, server.Server(), client.Client(id)); err == nil {
		t.Fatal("a client of a CA that is not trusted yet got through")
	}
	if err := os.WriteFile(bundle, both, 0o600); err != nil {
		t.Fatal(err)
	}
	c.add(lookInterval)
	if _, serverErr, clientErr := handshake(t, server.Server(), client.Client(id)); serverErr != nil || clientErr != nil {
		t.Fatalf("after the new CA was added: server %v, client %v", serverErr, clientErr)
	}
}

func TestCA_reuse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, err := LoadOrCreateCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrCreateCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !ca.cert.Equal(again.cert) {
		t.Fatal("the CA was made anew")
	}
	id := ServiceID(domain, "scanner")
	serial := func() string {
		t.Helper()
		cfg, err := again.Issue(dir, "scanner", id, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{cfg.KeyFile, filepath.Join(dir, "ca.key")} {
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", f, info.Mode())
			}
		}
		return source(t, cfg, WithClock(again.now)).material().cert.Leaf.SerialNumber.String()
	}
	first := serial()
	if serial() != first {
		t.Error("a good pair was made anew")
	}
	again.now = func() time.Time { return time.Now().Add(45 * time.Minute) }
	if serial() == first {
		t.Error("a pair near its end was kept")
	}
	second := serial()
	id = ServiceID(domain, "signer")
	if serial() == second {
		t.Error("a pair of another identity was kept")
	}
}

func TestCA_refuses(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	id := ServiceID(domain, "scanner")
	for _, name := range []string{"", "ca", "../x", "a/b", ".hidden"} {
		if _, err := ca.Issue(t.TempDir(), name, id, time.Hour); err == nil {
			t.Errorf("Issue accepted the name %q", name)
		}
	}
	if _, err := ca.Issue(t.TempDir(), "x", "scanner", time.Hour); err == nil {
		t.Error("Issue accepted a name that is no SPIFFE ID")
	}
	if _, err := ca.Issue(t.TempDir(), "x", id, 0); err == nil {
		t.Error("Issue accepted no validity")
	}
	cfg, err := ca.Issue(t.TempDir(), "x", id, 2*caValidity)
	if err != nil {
		t.Fatal(err)
	}
	if got := source(t, cfg).material().cert.Leaf.NotAfter; got.After(ca.cert.NotAfter) {
		t.Errorf("the certificate ends %v, after its CA", got)
	}
	if err := os.Remove(filepath.Join(filepath.Dir(ca.CertFile()), "ca.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateCA(filepath.Dir(ca.CertFile())); err == nil {
		t.Error("a CA without key was replaced")
	}
}

func TestPeerID_oneName(t *testing.T) {
	t.Parallel()
	for _, certs := range [][]*x509.Certificate{nil, {{}}} {
		if _, err := PeerID(tls.ConnectionState{PeerCertificates: certs}); !errors.Is(err, ErrNoIdentity) {
			t.Errorf("PeerID() = %v, want ErrNoIdentity", err)
		}
	}
}
