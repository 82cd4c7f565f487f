// Package natsd runs a NATS JetStream server inside the process: for the
// all-in-one, which is a real deployment on one machine, and for tests. Clients
// are authenticated by their certificates alone, as deploy/nats/nats.conf does
// it for a server of its own.
package natsd

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// User is a user of the server.
type User = eventbus.User

// Limits of the embedded server.
const (
	maxStore     = 4 << 30
	maxMemory    = 64 << 20
	maxPayload   = 1 << 20
	readyTimeout = 15 * time.Second
	readyStep    = 100 * time.Millisecond
)

// Config describes a server.
type Config struct {
	StoreDir string       // directory of the streams; survives restarts
	Host     string       // address to listen on; default 127.0.0.1
	Port     int          // 0 means a free port
	TLS      *tlsx.Source // identity `…/service/nats`; not optional
	Users    []User       // who may connect, by the SPIFFE ID in the certificate
	Logger   *slog.Logger // nil logs nothing
}

// Server is a running server.
type Server struct {
	srv *server.Server
}

// Start starts a server and returns when it accepts connections and JetStream
// runs. A port in use or a store that cannot be opened is an error.
func Start(cfg Config) (*Server, error) {
	if cfg.TLS == nil {
		return nil, errors.New("embedded NATS: no TLS source")
	}
	if cfg.StoreDir == "" {
		return nil, errors.New("embedded NATS: no store directory")
	}
	if len(cfg.Users) == 0 {
		return nil, errors.New("embedded NATS: no users") // without users everybody may do everything
	}
	for _, u := range cfg.Users {
		if u.ID == "" || u.Account == "" {
			return nil, fmt.Errorf("embedded NATS: user %q of account %q", u.ID, u.Account)
		}
	}
	opts, err := options(cfg)
	if err == nil {
		err = adoptStore(cfg.StoreDir)
	}
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	log := newLogger(cfg.Logger)
	srv.SetLogger(log, false, false)
	go srv.Start()
	err = waitReady(srv, log)
	if err == nil && !srv.JetStreamEnabled() {
		err = errors.New("JetStream did not start")
	}
	if err != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	return &Server{srv: srv}, nil
}

// waitReady waits until srv accepts connections. A start that failed shows only
// in the server's log, so it looks there between short waits.
func waitReady(srv *server.Server, log *logger) error {
	for deadline := time.Now().Add(readyTimeout); time.Now().Before(deadline); {
		select {
		case err := <-log.fatal:
			return err
		default:
		}
		if srv.ReadyForConnections(readyStep) {
			return nil
		}
	}
	return fmt.Errorf("not ready within %v", readyTimeout)
}

func options(cfg Config) (*server.Options, error) {
	host, port := cfg.Host, cfg.Port
	if host == "" {
		host = "127.0.0.1"
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	// The same text as in a server's own configuration file, so that both shapes
	// give the same rights.
	opts := &server.Options{}
	if err := opts.ProcessConfigString(eventbus.Accounts(cfg.Users)); err != nil {
		return nil, err
	}
	opts.ServerName, opts.Host, opts.Port, opts.NoSigs, opts.MaxPayload = "seaworthy", host, port, true, maxPayload
	opts.JetStream, opts.StoreDir = true, cfg.StoreDir
	opts.JetStreamMaxStore, opts.JetStreamMaxMemory = maxStore, maxMemory
	// An acknowledged event survives a power cut, not only a crash.
	opts.SyncAlways = true
	opts.TLS, opts.TLSConfig, opts.TLSVerify, opts.TLSMap, opts.TLSTimeout = true, cfg.TLS.Server(), true, true, 5
	return opts, nil
}

// adoptStore gives the streams of a release that had no accounts to the account
// that holds them now, so that what waits in them is not lost.
func adoptStore(dir string) error {
	before, now := filepath.Join(dir, "jetstream", "$G"), filepath.Join(dir, "jetstream", eventbus.Account)
	if _, err := os.Stat(now); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return nil // what is wrong with the store is the server's to say
	}
	if _, err := os.Stat(before); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return os.Rename(before, now)
}

// URL returns the address for clients.
func (s *Server) URL() string {
	host, port, _ := net.SplitHostPort(s.srv.Addr().String())
	return "nats://" + net.JoinHostPort(host, port)
}

// Port returns the port that the server listens on.
func (s *Server) Port() int {
	_, port, _ := net.SplitHostPort(s.srv.Addr().String())
	n, _ := strconv.Atoi(port)
	return n
}

// Shutdown stops the server and returns when its store is closed.
func (s *Server) Shutdown() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}
