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
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/server"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/webhook"
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

var errUnsigned = errors.New("neither secret nor ed25519_key is given: notifications are never sent unsigned")

// consumers is the number of events handled at once.
const consumers = 8

type notifier struct {
	deps     service.Deps
	grpc     *grpcx.Server
	worker   *worker.Worker
	consumer *consumer.Consumer
	client   *webhook.Client
	verifier *grpc.ClientConn
}

// New migrates the database and makes the notifier ready.
func New(ctx context.Context, cfg Config, d service.Deps) (service.App, error) {
	if err := d.DB.Migrate(ctx, store.Migrations()); err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	db := store.New(d.DB)
	targets, filters, shown, err := subscriptions(cfg)
	if err != nil {
		return nil, err
	}
	for name, target := range targets {
		for _, s := range target.Signers {
			// What the operator hands to the subscriber to verify with.
			if key := webhook.PublicKey(s); key != "" {
				d.Telemetry.Logger.InfoContext(ctx, "notifications are signed with ed25519", "subscription", name, "public_key", key)
			}
		}
	}
	client, err := webhook.NewClient(cfg.Delivery.Timeout, d.Telemetry, d.Now)
	if err != nil {
		return nil, err
	}
	n := &notifier{deps: d, client: client}
	n.worker, err = worker.New(worker.Config{
		Schedule: cfg.Delivery.Schedule, Workers: cfg.Delivery.Workers, PerSubscription: cfg.Delivery.PerSubscription,
		Lease: cfg.Delivery.Lease, Poll: cfg.Delivery.Poll, Drain: min(drain, d.Config.StopTimeout/2),
		Retention: cfg.Delivery.Retention, OrphanAge: cfg.Delivery.OrphanAge,
	}, worker.Deps{
		Store: db, Sender: n.client, Targets: targets, Telemetry: d.Telemetry, Now: d.Now, Jitter: rand.Float64,
		DeadLetters: consumer.NewDeadLetters(d.Bus, d.Telemetry.Propagator, d.Now),
	})
	if err != nil {
		return nil, err
	}
	verifier := tlsx.ServiceID(d.TLS.TrustDomain(), events.Verifier)
	if n.verifier, err = grpcx.Dial(cfg.VerifierAddress, verifier, grpcx.ClientDeps{TLS: d.TLS, Telemetry: d.Telemetry}); err != nil {
		return nil, fmt.Errorf("verifier: %w", err)
	}
	n.consumer = consumer.New(db, filters, verifierv1.NewVerdictServiceClient(n.verifier), verifier, n.worker.Wake, d.Telemetry, d.Now)
	n.grpc, err = grpcx.NewServer(cfg.Server, grpcx.ServerDeps{ //nolint:contextcheck // calls have contexts of their own
		TLS: d.TLS, Authz: server.Authz(), Telemetry: d.Telemetry, Readiness: d.Readiness, Listener: d.Listener,
	})
	if err != nil {
		return nil, fmt.Errorf("grpc: %w", errors.Join(err, n.verifier.Close()))
	}
	server.Register(n.grpc, server.NewDeliveries(db, n.worker.Wake, d.Now), server.NewSubscriptions(db, shown))
	return n, nil
}

func subscriptions(cfg Config) (map[string]webhook.Target, []consumer.Subscription, []server.Subscription, error) {
	targets := make(map[string]webhook.Target, len(cfg.Subscriptions))
	var filters []consumer.Subscription
	var shown []server.Subscription
	for _, s := range cfg.Subscriptions {
		signers, err := s.signers()
		if err != nil {
			return nil, nil, nil, fmt.Errorf("subscription %s: %s: %w", s.Name, err.field, err.cause)
		}
		targets[s.Name] = webhook.Target{URL: s.URL, Signers: signers, AllowPrivateNetworks: s.AllowPrivateNetworks}
		filters = append(filters, consumer.Subscription{
			Name: s.Name, Filter: core.Filter{Repositories: s.Repositories, States: s.States},
		})
		shown = append(shown, server.Subscription{
			Name: s.Name, URL: s.shownURL(), URLHash: worker.HashURL(s.URL),
			Repositories: s.Repositories, States: s.States,
		})
	}
	return targets, filters, shown, nil
}

// Run consumes, sends and serves until ctx ends.
func (n *notifier) Run(ctx context.Context) error {
	defer n.client.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return events.Consume(ctx, n.deps.Bus, events.ConsumerNotifierDeliver, consumers, n.consumer.Handle)
	})
	group.Go(func() error { return n.worker.Run(ctx) })
	group.Go(func() error { return n.grpc.Run(ctx) })
	return errors.Join(group.Wait(), n.verifier.Close())
}
