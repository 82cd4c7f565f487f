// Package app puts the notifier together: verdicts become signed notifications.
package app

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/consumer"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/egress"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/server"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/worker"
)

// Definition is the notifier for service.Main and service.Run.
var Definition = service.Definition[Config]{
	Name:          "notifier",
	Summary:       "tells subscribers about verdicts",
	Default:       Default,
	Common:        func(c *Config) *service.Config { return &c.Config },
	New:           New,
	NeedsDatabase: true,
}

// consumers is the number of events handled at once.
const consumers = 8

type notifier struct {
	deps     service.Deps
	grpc     *grpcx.Server
	worker   *worker.Worker
	consumer *consumer.Consumer
	clients  *egress.Clients
	verifier *grpc.ClientConn
}

// New migrates the database and makes the notifier ready.
func New(ctx context.Context, cfg Config, d service.Deps) (service.App, error) {
	if err := d.DB.Migrate(ctx, store.Migrations()); err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	db := store.New(d.DB)
	clients, err := egress.NewClients(cfg.Delivery.Timeout, d.Telemetry)
	if err != nil {
		return nil, err
	}
	subscriptions, err := subscriptions(ctx, cfg, clients, d)
	if err != nil {
		return nil, err
	}
	n := &notifier{deps: d, clients: clients}
	n.worker, err = worker.New(worker.Config{
		Schedule: cfg.Delivery.Schedule, Workers: cfg.Delivery.Workers, PerSubscription: cfg.Delivery.PerSubscription,
		Lease: cfg.Delivery.Lease, Poll: cfg.Delivery.Poll, Drain: min(drain, d.Config.StopTimeout/2),
		Retention: cfg.Delivery.Retention, OrphanAge: cfg.Delivery.OrphanAge,
	}, worker.Deps{
		Store: db, Subscriptions: subscriptions, Telemetry: d.Telemetry, Now: d.Now, Jitter: rand.Float64,
		DeadLetters: consumer.NewDeadLetters(d.Bus, d.Telemetry.Propagator, d.Now),
	})
	if err != nil {
		return nil, err
	}
	verifier := tlsx.ServiceID(d.TLS.TrustDomain(), events.Verifier)
	if n.verifier, err = grpcx.Dial(cfg.VerifierAddress, verifier, grpcx.ClientDeps{TLS: d.TLS, Telemetry: d.Telemetry}); err != nil {
		return nil, fmt.Errorf("verifier: %w", err)
	}
	n.consumer = consumer.New(db, subscriptions, verifierv1.NewVerdictServiceClient(n.verifier), verifier, n.worker.Wake, d.Telemetry, d.Now)
	n.grpc, err = grpcx.NewServer(cfg.Server, grpcx.ServerDeps{ //nolint:contextcheck // calls have contexts of their own
		TLS: d.TLS, Authz: server.Authz(), Telemetry: d.Telemetry, Readiness: d.Readiness, Listener: d.Listener,
	})
	if err != nil {
		return nil, fmt.Errorf("grpc: %w", errors.Join(err, n.verifier.Close()))
	}
	server.Register(n.grpc, server.NewDeliveries(db, n.worker.Wake, d.Now), server.NewSubscriptions(db, subscriptions))
	return n, nil
}

// Run consumes, sends and serves until ctx ends.
func (n *notifier) Run(ctx context.Context) error {
	defer n.clients.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return events.Consume(ctx, n.deps.Bus, events.ConsumerNotifierDeliver, consumers, n.consumer.Handle)
	})
	group.Go(func() error { return n.worker.Run(ctx) })
	group.Go(func() error { return n.grpc.Run(ctx) })
	return errors.Join(group.Wait(), n.verifier.Close())
}
