// Package natsd runs a NATS JetStream server inside the process: for the
// all-in-one, which is a real deployment on one machine, and for tests. Clients
// are authenticated by their certificates alone, as deploy/nats/nats.conf does
// it for a server of its own.
package natsd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
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
	defaultHost  = "127.0.0.1"
	maxStore     = 4 << 30
	maxMemory    = 64 << 20
	maxPayload   = 1 << 20
	readyTimeout = 15 * time.Second
	readyStep    = 100 * time.Millisecond
	healthEvery  = 2 * time.Second
	// roomNeeded is how much the disk must take before the server is started again.
	roomNeeded = 1 << 20
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
	cfg Config
	srv *server.Server // replaced by Keep alone
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
	if err := adoptStore(cfg.StoreDir); err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	srv, err := start(cfg)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	cfg.Port = srv.Addr().(*net.TCPAddr).Port // also after a restart
	return &Server{cfg: cfg, srv: srv}, nil
}

func start(cfg Config) (*server.Server, error) {
	opts, err := options(cfg)
	if err != nil {
		return nil, err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, err
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
		return nil, err
	}
	return srv, nil
}

// Keep starts the server again, until ctx ends, when a stream or consumer cannot be
// written. One failed write is enough for that, and NATS never tries again: without Keep
// a disk that was full for a moment stops all events until somebody restarts the process.
// Clients connect again by themselves; what was acknowledged is still there. Shutdown must
// not be called before Keep has returned.
func (s *Server) Keep(ctx context.Context) error {
	log := newLogger(s.cfg.Logger)
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if s.srv.Running() && s.healthy() {
			continue
		}
		if err := s.room(); err != nil {
			log.Warnf("streams cannot be written; the server starts again when the disk takes writes: %v", err)
			continue
		}
		s.Shutdown()
		srv, err := start(s.cfg)
		if err != nil {
			log.Errorf("the server cannot start again: %v", err)
			continue
		}
		s.srv = srv
		log.Warnf("the server was started again, because streams could not be written")
	}
}

// healthy says what the server's own health check says of all streams and consumers.
func (s *Server) healthy() bool {
	answer := &statusOnly{header: http.Header{}}
	s.srv.HandleHealthz(answer, &http.Request{URL: &url.URL{Path: server.HealthzPath}})
	return answer.status < http.StatusBadRequest
}

// statusOnly keeps the status of an answer.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header { return s.header }

func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }

func (s *statusOnly) WriteHeader(status int) { s.status = status }

// room tries whether the disk takes writes.
func (s *Server) room() error {
	f, err := os.CreateTemp(s.cfg.StoreDir, ".room-*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, roomNeeded))
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
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
		host = defaultHost
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
	host := s.cfg.Host
	if host == "" {
		host = defaultHost
	}
	return "nats://" + net.JoinHostPort(host, strconv.Itoa(s.cfg.Port))
}

// Port returns the port that the server listens on.
func (s *Server) Port() int { return s.cfg.Port }

// Shutdown stops the server and returns when its store is closed.
func (s *Server) Shutdown() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}
