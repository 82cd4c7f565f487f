package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/buildinfo"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/hostguard"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// The components of /readyz that the recipe sets.
const (
	componentApp      = "service"
	componentBus      = "eventbus"
	componentDatabase = "database"
)

var (
	errStarting = errors.New("starting")
	errStopping = errors.New("stopping")
)

// readyPoll is how often a start looks whether everything is ready.
const readyPoll = 50 * time.Millisecond

// runner is one run of a service.
type runner struct {
	name      string
	cfg       Config
	o         RunOptions
	t         *obs.Telemetry
	log       *slog.Logger
	tls       *tlsx.Source
	readiness *lifecycle.Readiness
	admin     net.Listener
	bus       *eventbus.Bus
}

func newRunner(ctx context.Context, name string, cfg Config, o RunOptions, t *obs.Telemetry) (*runner, error) {
	r := &runner{name: name, cfg: cfg, o: o, t: t, log: t.Logger, readiness: lifecycle.NewReadiness()}
	var err error
	if r.tls, err = tlsx.NewSource(cfg.TLS, tlsx.WithLogger(t.Logger)); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	if want := tlsx.ServiceID(r.tls.TrustDomain(), name); r.tls.ID() != want {
		return nil, fmt.Errorf("tls: %s is the certificate of %s, not of %s", cfg.TLS.CertFile, r.tls.ID(), want)
	}
	if r.admin = o.AdminListener; r.admin == nil && cfg.Admin.Listen != "" {
		if r.admin, err = (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Admin.Listen); err != nil {
			return nil, fmt.Errorf("admin server: %w", err)
		}
	}
	if r.bus, err = events.Connect(ctx, cfg.NATS, name, r.tls, t); err != nil {
		if r.admin != nil {
			err = errors.Join(err, r.admin.Close())
		}
		return nil, fmt.Errorf("event bus: %w", err)
	}
	return r, nil
}

// run starts the components in the order of their dependencies, so that
// lifecycle.Run stops them in the reverse.
func (r *runner) run(ctx context.Context, needsDatabase bool, newApp func(context.Context, Deps) (App, error)) error {
	r.log.InfoContext(ctx, "service starting",
		"version", buildinfo.Version(), "commit", buildinfo.Commit(), "spiffe_id", r.tls.ID())
	r.readiness.Set(componentApp, errStarting)
	r.readiness.Probe(componentBus, r.bus.Ready)

	// Not ready comes before anything stops, whatever the reason of the stop.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	markStopping := sync.OnceFunc(func() {
		r.readiness.Set(componentApp, errStopping)
		r.log.InfoContext(ctx, "service stopping")
	})
	defer context.AfterFunc(ctx, func() { markStopping(); stop() })()

	var cs []lifecycle.Component
	if r.admin != nil {
		cs = append(cs, lifecycle.Component{Name: "admin", Run: r.serveAdmin})
	}
	db := make(chan *sqldb.DB, 1)
	if needsDatabase {
		r.readiness.Set(componentDatabase, errStarting)
		cs = append(cs, lifecycle.Component{Name: componentDatabase, Run: func(ctx context.Context) error {
			return r.keepDatabase(ctx, db)
		}})
	} else {
		db <- nil
	}
	cs = append(cs,
		lifecycle.Component{Name: componentBus, Run: r.keepBus},
		lifecycle.Component{Name: componentApp, Run: func(ctx context.Context) error {
			defer markStopping()
			return r.runApp(ctx, db, newApp)
		}},
	)
	err := lifecycle.Run(running, r.log, r.cfg.StopTimeout, cs...)
	if err == nil {
		r.log.InfoContext(ctx, "service stopped")
	}
	return err
}

func (r *runner) serveAdmin(ctx context.Context) error {
	s := &http.Server{
		Handler:           hostguard.Handler(lifecycle.AdminHandler(r.readiness, r.t.Registry), r.cfg.Admin.Names...),
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(r.admin) }()
	r.log.InfoContext(ctx, "admin server listening", "address", r.admin.Addr().String())
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	// The last component to stop, and nobody's request matters any more.
	err := s.Close()
	if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}

// keepBus makes the streams in the background and closes the bus at the end.
func (r *runner) keepBus(ctx context.Context) error {
	if err := r.bus.Ensure(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	<-ctx.Done()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.StopTimeout)
	defer cancel()
	return r.bus.Close(closing)
}

func (r *runner) runApp(ctx context.Context, databases <-chan *sqldb.DB, newApp func(context.Context, Deps) (App, error)) error {
	var db *sqldb.DB
	select {
	case db = <-databases:
	case <-ctx.Done():
		return nil
	}
	own := r.cfg
	own.StopTimeout = r.cfg.StopTimeout * 4 / 5
	app, err := newApp(ctx, Deps{
		Config: own, Name: r.name, Telemetry: r.t, TLS: r.tls, Bus: r.bus, DB: db,
		Readiness: r.readiness, Listener: r.o.Listener, Now: r.o.Now,
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to stop while starting: not a failure
		}
		return fmt.Errorf("start: %w", err)
	}
	r.readiness.Set(componentApp, nil)
	announced := make(chan struct{})
	announce, cancel := context.WithCancel(ctx)
	go func() {
		defer close(announced)
		r.announceReady(announce)
	}()
	defer func() { cancel(); <-announced }()
	return app.Run(ctx)
}

// announceReady waits until everything is ready, and says so once.
func (r *runner) announceReady(ctx context.Context) {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for r.readiness.Check() != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	r.log.InfoContext(ctx, "service ready")
	if r.o.OnReady != nil {
		r.o.OnReady()
	}
}
