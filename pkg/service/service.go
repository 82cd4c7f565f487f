// Package service is the one recipe by which every Seaworthy service starts and
// stops. A service is a [Definition]; its main is service.Main(app.Definition),
// and the all-in-one calls [Run] with the same definitions.
//
// Start: configuration (every mistake at once) → telemetry → TLS identity →
// admin server → event bus and database → the service's New → its Run. The
// admin server comes first, so that a service that waits can be seen waiting:
// /readyz names what is missing. The database is waited for. The event bus is
// not: it connects and makes its streams in the background, and what a service
// can answer without it, it answers; until then /readyz says so.
//
// Stop: not ready → the service's Run ends (consumers, then gRPC) → event bus →
// database → admin server → telemetry is flushed; all within stop_timeout,
// except for the last, which has five seconds of its own.
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// App is a service that has been put together.
type App interface {
	// Run serves until ctx ends and returns after its consumers and servers
	// have stopped. Returning earlier stops the process.
	Run(ctx context.Context) error
}

// Deps is what a service gets from the recipe. It closes none of it, except
// for what it serves on Listener.
type Deps struct {
	// Config is the common part; its StopTimeout is the time that the
	// service's own Run has, which leaves some for the rest.
	Config Config
	// Name is the service, for example "scanner".
	Name string
	// Telemetry is never nil.
	Telemetry *obs.Telemetry
	// TLS is never nil and carries the identity of Name.
	TLS *tlsx.Source
	// Bus is never nil; it may not be connected yet.
	Bus *eventbus.Bus
	// DB is nil if the definition does not need a database. It is reachable
	// and not migrated.
	DB *sqldb.DB
	// Readiness is where the service says what else has to come up.
	Readiness *lifecycle.Readiness
	// Listener replaces Config.Server.Listen if it is not nil.
	Listener net.Listener
	// Now is the clock.
	Now func() time.Time
}

// Definition is a service with the configuration C.
type Definition[C any] struct {
	// Name is the name in the SPIFFE ID, the topology, logs and variables.
	Name string
	// Summary is a sentence for --help.
	Summary string
	// Default is the configuration before any file, variable or flag.
	Default func() C
	// Common finds the common part in C.
	Common func(*C) *Config
	// New puts the service together. It must not wait for other services.
	New func(ctx context.Context, cfg C, d Deps) (App, error)
	// NeedsDatabase has Deps.DB opened.
	NeedsDatabase bool
}

// RunOptions is how a test or the all-in-one runs a service. All optional.
type RunOptions struct {
	// Logs is where log lines go; nil = nowhere.
	Logs io.Writer
	// Listener is passed to the service and closed at the end.
	Listener net.Listener
	// AdminListener replaces admin.listen and is closed at the end.
	AdminListener net.Listener
	// OnReady is called once, from another goroutine, when everything is ready.
	OnReady func()
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Load reads the configuration of a service: defaults, file ("" = none),
// environment ("NAME=value"; nil = none), --set flags. It does not validate.
func Load[C any](d Definition[C], file string, environ, set []string) (C, error) {
	cfg := d.Default()
	err := config.Load(&cfg, config.Options{
		File: file, EnvPrefix: EnvPrefix(d.Name), Environ: environ, Set: set,
	})
	return cfg, err
}

// Check validates the common part of a configuration and, if C is a
// [config.Validator], the rest.
func Check[C any](d Definition[C], cfg *C) *config.Problems {
	p := &config.Problems{}
	d.Common(cfg).validate(p, d.NeedsDatabase)
	if v, ok := any(cfg).(config.Validator); ok {
		v.Validate(p)
	}
	return p
}

// ErrConfig is in the error of Run for a configuration that cannot be used.
var ErrConfig = errors.New("configuration is not valid")

// Run runs a service until ctx ends and stops it in order. It returns nil if
// ctx ended it and everything stopped in time.
func Run[C any](ctx context.Context, d Definition[C], cfg C, o RunOptions) error {
	for _, l := range []net.Listener{o.Listener, o.AdminListener} {
		if l != nil {
			defer l.Close() // also if the start fails before anybody serves on it
		}
	}
	problems := Check(d, &cfg)
	if err := problems.Err(); err != nil {
		return fmt.Errorf("%w:\n%w", ErrConfig, err)
	}
	if o.Logs == nil {
		o.Logs = io.Discard
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	common := *d.Common(&cfg)
	t, err := obs.Start(ctx, d.Name, common.Telemetry, o.Logs)
	if err != nil {
		return fmt.Errorf("%s: %w", d.Name, err)
	}
	defer flush(ctx, t)
	for _, w := range problems.Warnings() {
		t.Logger.WarnContext(ctx, "configuration warning", "problem", w)
	}
	r, err := newRunner(ctx, d.Name, common, o, t)
	if err != nil {
		return fmt.Errorf("%s: %w", d.Name, err)
	}
	if err := r.run(ctx, d.NeedsDatabase, func(ctx context.Context, deps Deps) (App, error) {
		return d.New(ctx, cfg, deps)
	}); err != nil {
		return fmt.Errorf("%s: %w", d.Name, err)
	}
	return nil
}

// flushTimeout is what the last spans have to reach the collector.
const flushTimeout = 5 * time.Second

func flush(ctx context.Context, t *obs.Telemetry) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if err := t.Shutdown(ctx); err != nil {
		t.Logger.WarnContext(ctx, "telemetry flush failed", "error", err)
	}
}
