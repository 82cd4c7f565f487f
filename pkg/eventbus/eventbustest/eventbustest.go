// Package eventbustest runs a real NATS JetStream server with mutual TLS for
// tests, which may stop and start it at will.
package eventbustest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/natsd"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// TrustDomain is the trust domain of the certificates.
const TrustDomain = "seaworthy.local"

// Server is a NATS server of one test.
type Server struct {
	tb      testing.TB
	ca      *tlsx.CA
	dir     string
	cfg     natsd.Config
	running *natsd.Server
}

// Start starts a server that knows the users; it stops with the test.
func Start(tb testing.TB, users []eventbus.User) *Server {
	tb.Helper()
	dir := tb.TempDir()
	ca, err := tlsx.LoadOrCreateCA(filepath.Join(dir, "ca"))
	if err != nil {
		tb.Fatalf("create CA: %v", err)
	}
	s := &Server{tb: tb, ca: ca, dir: dir}
	s.cfg = natsd.Config{
		StoreDir: filepath.Join(dir, "store"), Users: users,
		TLS: s.TLS(tlsx.ServiceID(TrustDomain, eventbus.Server)),
	}
	tb.Cleanup(s.Stop)
	s.Start()
	s.cfg.Port = s.running.Port() // the same again after a restart
	return s
}

// Start starts the server again after Stop, on the same store and port.
func (s *Server) Start() {
	s.tb.Helper()
	srv, err := natsd.Start(s.cfg)
	if err != nil {
		s.tb.Fatalf("start NATS: %v", err)
	}
	s.running = srv
}

// Stop stops the server; its store stays.
func (s *Server) Stop() {
	if s.running != nil {
		s.running.Shutdown()
		s.running = nil
	}
}

// URL returns the server's address, also while it is stopped.
func (s *Server) URL() string { return "nats://127.0.0.1:" + strconv.Itoa(s.cfg.Port) }

// TLS returns the identity with this SPIFFE ID, issued by the server's CA.
func (s *Server) TLS(id string) *tlsx.Source {
	s.tb.Helper()
	src, err := tlsx.NewSource(s.TLSConfig(id))
	if err != nil {
		s.tb.Fatalf("load certificate: %v", err)
	}
	return src
}

// TLSConfig names the files of that identity, for another process.
func (s *Server) TLSConfig(id string) tlsx.Config {
	s.tb.Helper()
	parts := strings.Split(id, "/")
	cfg, err := s.ca.Issue(filepath.Join(s.dir, "tls"), strings.Join(parts[len(parts)-2:], "-"), id, time.Hour)
	if err != nil {
		s.tb.Fatalf("issue certificate: %v", err)
	}
	return cfg
}

// SetUsers changes the users from the next Start on.
func (s *Server) SetUsers(users []eventbus.User) { s.cfg.Users = users }

// Wipe deletes the store of a stopped server.
func (s *Server) Wipe() {
	s.tb.Helper()
	if s.running != nil {
		s.tb.Fatal("wipe a running server")
	}
	if err := os.RemoveAll(s.cfg.StoreDir); err != nil {
		s.tb.Fatalf("wipe store: %v", err)
	}
}
