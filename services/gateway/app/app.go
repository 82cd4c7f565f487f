// Package app puts the gateway together: the webhooks of registries become
// ImagePushed events.
package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/seaworthy-dev/seaworthy/pkg/artifact"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/publisher"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/server"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/webhook"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/webhook/distribution"
)

// Definition is the gateway for service.Main and service.Run. It has no gRPC server
// and no database. RunOptions.Listener replaces webhooks.listen.
var Definition = service.Definition[Config]{
	Name:    "gateway",
	Summary: "takes the webhooks of registries and stores their pushes as events",
	Default: Default,
	Common:  func(c *Config) *service.Config { return &c.Config },
	New:     New,
}

// KindDistribution is the kind of CNCF Distribution.
const KindDistribution = "distribution"

// adapters are the kinds of registries, by the name in the path and the configuration.
var adapters = map[string]webhook.Adapter{
	KindDistribution: distribution.Adapter{},
}

// New makes the gateway ready and opens its listener.
func New(ctx context.Context, cfg Config, d service.Deps) (service.App, error) {
	limits := webhook.DefaultLimits()
	limits.Events = cfg.Webhooks.MaxEvents
	serverCfg := server.Config{
		MaxBody: int64(cfg.Webhooks.MaxBody), Limits: limits, MaxConcurrent: cfg.Webhooks.MaxConcurrent,
		HeaderTimeout: cfg.Webhooks.HeaderTimeout, BodyTimeout: cfg.Webhooks.BodyTimeout,
		PublishTimeout: cfg.Webhooks.PublishTimeout, RetryAfter: cfg.Webhooks.RetryAfter,
	}
	for _, s := range cfg.Sources {
		secret, err := s.Secret.Resolve()
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", s.Name, err)
		}
		rate := s.Rate
		if rate == (RateConfig{}) {
			rate = cfg.Rate
		}
		serverCfg.Sources = append(serverCfg.Sources, server.Source{
			Name: s.Name, Kind: s.Kind, Secret: secret, Registry: s.Registry,
			RequestsPerSecond: rate.RequestsPerSecond, Burst: rate.Burst,
		})
	}
	srv, err := server.New(serverCfg, server.Deps{
		Adapters:  adapters,
		Publisher: publisher.New(d.Bus), Ready: d.Readiness.Check, IsOwnArtifact: artifact.IsEvidence,
		Telemetry: d.Telemetry, Now: d.Now,
	})
	if err != nil {
		return nil, err
	}
	listener, err := listen(ctx, cfg.Webhooks, d)
	if err != nil {
		return nil, err
	}
	return &gateway{http: srv.HTTPServer(), listener: listener, deps: d}, nil
}

func listen(ctx context.Context, cfg WebhooksConfig, d service.Deps) (net.Listener, error) {
	listener := d.Listener
	if listener == nil {
		var err error
		if listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen); err != nil {
			return nil, fmt.Errorf("webhooks.listen: %w", err)
		}
	}
	if cfg.TLS.CertFile == "" {
		return listener, nil
	}
	cert, err := server.NewCertificate(cfg.TLS.CertFile, cfg.TLS.KeyFile, d.Telemetry.Logger, d.Now)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("webhooks.tls: %w", err), listener.Close())
	}
	return tls.NewListener(listener, cert.Config()), nil //nolint:contextcheck // each handshake has a context of its own
}

type gateway struct {
	http     *http.Server
	listener net.Listener
	deps     service.Deps
}

// Run serves until ctx ends, then lets the requests under way end.
func (g *gateway) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- g.http.Serve(g.listener) }()
	g.deps.Telemetry.Logger.InfoContext(ctx, "webhook server listening", "address", g.listener.Addr().String())
	select {
	case err := <-failed:
		return fmt.Errorf("http: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.deps.Config.StopTimeout)
	defer cancel()
	err := g.http.Shutdown(stop)
	if err != nil {
		err = errors.Join(fmt.Errorf("http: %w", err), g.http.Close())
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
