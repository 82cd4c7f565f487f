package fleet

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/fleetcontext"
	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/registryd"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/natsd"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	gateway "github.com/seaworthy-dev/seaworthy/services/gateway/app"
	notifier "github.com/seaworthy-dev/seaworthy/services/notifier/app"
	scanner "github.com/seaworthy-dev/seaworthy/services/scanner/app"
	signer "github.com/seaworthy-dev/seaworthy/services/signer/app"
	verifier "github.com/seaworthy-dev/seaworthy/services/verifier/app"
)

const (
	serviceCount = 5
	stopTimeout  = 30 * time.Second
	flushTimeout = 5 * time.Second
)

// Fleet is a running all-in-one.
type Fleet struct {
	cfg     Config
	ids     *identities
	context *fleetcontext.Context
}

// Run starts everything, calls onReady once all of it is ready, and serves until
// ctx ends; then it stops in order. What is in DataDir from an earlier run is used
// again.
func Run(ctx context.Context, cfg Config, logs io.Writer, onReady func(*Fleet)) (err error) {
	var p config.Problems
	cfg.Validate(&p)
	if err := p.Err(); err != nil {
		return err
	}
	telemetry, err := obs.Start(ctx, "seaworthy", cfg.Telemetry, logs)
	if err != nil {
		return err
	}
	defer func() {
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		err = errors.Join(err, telemetry.Shutdown(flush))
	}()
	for _, w := range p.Warnings() {
		telemetry.Logger.WarnContext(ctx, "configuration warning", "problem", w)
	}
	if err := openDataDir(cfg.DataDir); err != nil {
		return err
	}
	unlock, err := lockDir(cfg.DataDir)
	if err != nil {
		return err
	}
	defer unlock()

	ids, err := issueIdentities(cfg.path("certs"))
	if err != nil {
		return err
	}
	sockets, err := openSockets(ctx, cfg)
	if err != nil {
		return err
	}
	nats, err := startNATS(cfg, ids, sockets.nats, telemetry.Logger)
	if err != nil {
		sockets.close()
		return err
	}
	defer nats.Shutdown()
	secrets, err := openSecrets(cfg.path("secrets"))
	if err != nil {
		sockets.close()
		return err
	}
	cfg.wire(ids, sockets, nats.URL(), secrets)
	f := &Fleet{cfg: cfg, ids: ids, context: contextOf(ids, sockets, nats.URL())}
	if err := fleetcontext.Save(f.ContextFile(), f.context); err != nil {
		sockets.close()
		return err
	}
	components, err := f.components(ctx, nats, sockets, secrets, logs, onReady)
	if err != nil {
		sockets.close()
		return err
	}
	return lifecycle.Run(ctx, telemetry.Logger, stopTimeout, components...)
}

func startNATS(cfg Config, ids *identities, port int, log *slog.Logger) (*natsd.Server, error) {
	source, err := tlsx.NewSource(ids.nats)
	if err != nil {
		return nil, err
	}
	users := append(events.Users(fleetcontext.DefaultTrustDomain, operatorName),
		events.Observer(tlsx.ClientID(fleetcontext.DefaultTrustDomain, observerName)))
	return natsd.Start(natsd.Config{
		StoreDir: cfg.path("nats"), Host: cfg.Host, Port: port, TLS: source, Users: users, Logger: log,
	})
}

// components are what keeps the streams writable, the provisioner of the streams, the registry and the five services.
// The services start at once and wait for what they need, as they would on five
// machines. They stop in the opposite order: while the signer finishes what it began,
// the registry takes its attestations; while clients finish their pushes, the gateway
// stores the events.
func (f *Fleet) components(ctx context.Context, nats *natsd.Server, s *sockets, secrets *secrets, logs io.Writer, onReady func(*Fleet)) ([]lifecycle.Component, error) {
	var waiting atomic.Int32
	waiting.Store(serviceCount)
	ready := func() {
		if waiting.Add(-1) == 0 && onReady != nil {
			go onReady(f)
		}
	}
	all := []lifecycle.Component{
		{Name: "nats", Run: nats.Keep},
		{Name: eventbus.Provisioner, Run: f.provision(logs)},
		component(gateway.Definition, f.cfg.Gateway, s.of(gateway.Definition.Name), logs, ready),
	}
	if !f.cfg.Registry.Disabled {
		registry, err := registryd.New(ctx, registryd.Config{
			Dir: f.cfg.path("registry"), Listener: s.registry, Names: append([]string{f.cfg.Host}, f.cfg.Registry.Names...), Logs: logs,
			NotifyURL: f.GatewayURL() + "/webhooks/v1/distribution/" + sourceName, NotifySecret: secrets.webhook,
		})
		if err != nil {
			return nil, err
		}
		all = append(all, lifecycle.Component{Name: "registry", Run: registry.Run})
	}
	return append(all,
		component(notifier.Definition, f.cfg.Notifier, s.of(notifier.Definition.Name), logs, ready),
		component(verifier.Definition, f.cfg.Verifier, s.of(verifier.Definition.Name), logs, ready),
		component(signer.Definition, f.cfg.Signer, s.of(signer.Definition.Name), logs, ready),
		component(scanner.Definition, f.cfg.Scanner, s.of(scanner.Definition.Name), logs, ready),
	), nil
}

func component[C any](d service.Definition[C], cfg C, s serviceSockets, logs io.Writer, ready func()) lifecycle.Component {
	return lifecycle.Component{Name: d.Name, Run: func(ctx context.Context) error {
		return service.Run(ctx, d, cfg, service.RunOptions{
			Logs: logs, Listener: s.listener, AdminListener: s.admin, OnReady: ready,
		})
	}}
}

// provision makes the streams and keeps them as they should be.
func (f *Fleet) provision(logs io.Writer) func(context.Context) error {
	return func(ctx context.Context) error {
		source, err := tlsx.NewSource(f.ids.topology)
		if err != nil {
			return err
		}
		telemetry, err := obs.Start(ctx, eventbus.Provisioner, f.cfg.Telemetry, logs)
		if err != nil {
			return err
		}
		err = events.Provision(ctx, eventbus.Config{URL: f.context.NATS}, source, telemetry)
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		return errors.Join(err, telemetry.Shutdown(flush))
	}
}

// DataDir is where everything is kept.
func (f *Fleet) DataDir() string { return f.cfg.DataDir }

// ContextFile is the file that tells seaworthyctl where the fleet is.
func (f *Fleet) ContextFile() string { return f.cfg.path(fleetcontext.FileName) }

// Context is what that file says.
func (f *Fleet) Context() *fleetcontext.Context { return f.context }

// Registry is the host and port of the embedded registry; empty without one.
func (f *Fleet) Registry() string { return f.context.Registry.Host }

// GatewayURL is where webhooks are received.
func (f *Fleet) GatewayURL() string { return f.context.Addresses.Gateway }
