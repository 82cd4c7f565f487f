// Package app puts the scanner together.
package app

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/buildinfo"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/affected"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/archive"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/consumer"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/extract"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/feeds"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/pull"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/reconcile"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/reindex"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/rematch"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/server"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/snapshots"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/wire"
)

// Definition is the scanner for service.Main and service.Run.
var Definition = service.Definition[Config]{
	Name:          "scanner",
	Summary:       "takes the packages out of images and matches them with advisories",
	Default:       Default,
	Common:        func(c *Config) *service.Config { return &c.Config },
	New:           New,
	NeedsDatabase: true,
}

// watchInterval is how often WatchScan looks for a change.
const watchInterval = 250 * time.Millisecond

// rematchInterval is how often the queue of images to match again is looked at.
const rematchInterval = time.Second

// reindexInterval is how often it is looked for inventories that a replica of an earlier
// release indexed.
const reindexInterval = time.Hour

const (
	// reconcileDelay is when registries are first compared with the scans.
	reconcileDelay = 2 * time.Second
	// reconcileGrace is how long pushes that are on their way have to become scans.
	reconcileGrace = 30 * time.Second
)

type scanner struct {
	cfg        Config
	deps       service.Deps
	registry   *registry.Client
	snapshots  *snapshots.Keeper
	scans      *consumer.Scans
	rematcher  *rematch.Rematcher
	reindexer  *reindex.Reindexer
	feeds      *feeds.Refresher
	reconciler *reconcile.Reconciler
	pruner     *pruner
	server     *grpcx.Server
}

// New migrates the database, loads the advisories and makes the servers.
func New(ctx context.Context, cfg Config, d service.Deps) (service.App, error) {
	if err := d.DB.Migrate(ctx, store.Migrations()); err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	db, err := store.New(d.DB)
	if err != nil {
		return nil, err
	}
	files, err := snapshots.OpenFiles(cfg.advisoriesDirectory())
	if err != nil {
		return nil, err
	}
	keeper := snapshots.New(db, files, snapshots.NewObjects(d.Bus), d.Telemetry.Logger, d.Now, cfg.Advisories.MaxRecords)
	if err := keeper.Start(ctx); err != nil {
		return nil, fmt.Errorf("load advisories: %w", err)
	}
	if err := keeper.Seed(ctx, cfg.Advisories.Seed); err != nil {
		return nil, err
	}
	client, err := registry.New(cfg.Registry, d.Telemetry)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	puller := pull.New(client)
	extractor, err := extract.NewWith(puller, cfg.Limits, cfg.Scan.Layers, extract.Options{
		SkipSecrets: !cfg.Scan.Secrets, MaxKnown: cfg.Scan.LayerMemory,
	})
	if err != nil {
		return nil, err
	}
	reports := archive.New(db, d.Now)
	extractor.UseCache(reports)
	engine := &core.Engine{
		Source: puller, Extractor: extractor, Advisories: keeper, Archive: reports, Lineage: reports, Version: buildinfo.Version(),
		NotCovered: notCovered(d.Telemetry.Logger, keeper),
	}
	m, err := newMetrics(d.Telemetry, keeper, d.Now)
	if err != nil {
		return nil, err
	}
	publisher := publisher{d.Bus}
	s := &scanner{cfg: cfg, deps: d, registry: client, snapshots: keeper}
	s.pruner = &pruner{
		store: db, log: d.Telemetry.Logger, now: d.Now, retention: cfg.Scan.LayerRetention, set: extractor.Set(), interval: pruneInterval,
	}
	s.scans = &consumer.Scans{
		Engine: engine, Store: db, Publisher: publisher, Log: d.Telemetry.Logger, Now: d.Now,
		MaxDeliver: maxDeliver(cfg.NATS), Done: m.scanDone, Ignored: m.ignored,
	}
	s.rematcher = &rematch.Rematcher{
		Store: db, Archive: reports, Advisories: keeper, Publisher: publisher, Log: d.Telemetry.Logger, Now: d.Now, Done: m.rematched,
	}
	s.reindexer = &reindex.Reindexer{Store: db, Reports: reports, Log: d.Telemetry.Logger}
	s.feeds = &feeds.Refresher{
		Options: feeds.Options{
			Feeds: cfg.Advisories.Feeds, Interval: cfg.Advisories.FeedInterval, Timeout: cfg.Advisories.FeedTimeout,
			Directory: cfg.advisoriesDirectory(),
		},
		Client: &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}}, Store: db, Advisories: keeper,
		Lock:    func(ctx context.Context) (func(), error) { return d.Bus.Lock(ctx, events.LocksScanner, "feeds") },
		Updated: publisher.updated(d.Now), Done: m.refreshed, Log: d.Telemetry.Logger, Now: d.Now,
	}
	s.reconciler = &reconcile.Reconciler{
		Options: reconcile.Options{
			Interval: cfg.Reconcile.Interval, Timeout: cfg.Reconcile.Timeout, RequestsPerSecond: cfg.Reconcile.RequestsPerSecond,
			MaxRepositories: cfg.Reconcile.MaxRepositories, MaxTags: cfg.Reconcile.MaxTags, MaxChecks: cfg.Reconcile.MaxChecks,
			Grace: reconcileGrace, StartDelay: reconcileDelay,
		},
		Sources: cfg.Reconcile.Registries, Registry: client, Store: db, Publisher: publisher,
		Lock: func(ctx context.Context, name string) (func(), error) {
			return d.Bus.Lock(ctx, events.LocksScanner, name)
		},
		Done: m.reconciled, Log: d.Telemetry.Logger, Now: d.Now,
	}
	trusted, err := cfg.Advisories.trustedKeys()
	if err != nil {
		return nil, err
	}
	s.server, err = grpcx.NewServer(cfg.Server, grpcx.ServerDeps{ //nolint:contextcheck // calls have contexts of their own
		TLS: d.TLS, Authz: server.Authz, Telemetry: d.Telemetry, Readiness: d.Readiness, Listener: d.Listener,
	})
	if err != nil {
		return nil, fmt.Errorf("grpc: %w", err)
	}
	server.Register(s.server, server.Deps{
		Affected: &affected.Finder{Store: db, Reports: reports, Advisories: keeper},
		Store:    db, Reports: reports, Resolver: engine, Publisher: publisher, Snapshots: keeper,
		Feeds: s.feeds, TrustedKeys: trusted, Now: d.Now, WatchInterval: watchInterval,
	})
	return s, nil
}

// Run serves until ctx ends.
func (s *scanner) Run(ctx context.Context) error {
	defer s.registry.Close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.server.Run(ctx) })
	g.Go(func() error { return s.snapshots.Follow(ctx, s.cfg.Advisories.RefreshInterval) })
	g.Go(func() error { return s.feeds.Run(ctx) })
	g.Go(func() error { return s.rematcher.Run(ctx, rematchInterval) })
	g.Go(func() error { return s.reindexer.Run(ctx, reindexInterval) })
	g.Go(func() error { return s.pruner.run(ctx) })
	g.Go(func() error { return s.reconciler.Run(ctx) })
	g.Go(func() error {
		return events.Consume(ctx, s.deps.Bus, events.ConsumerScannerScan, s.cfg.Scan.Concurrency, s.handle)
	})
	return g.Wait()
}

func (s *scanner) handle(ctx context.Context, e *eventv1.ImagePushedEvent, d *eventbus.Delivery) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Scan.Timeout)
	defer cancel()
	return s.scans.Handle(ctx, e, d)
}

// maxDeliver is the number of attempts the bus makes for the durable.
func maxDeliver(cfg eventbus.Config) int {
	if cfg.MaxDeliver > 0 {
		return cfg.MaxDeliver
	}
	for _, s := range events.Topology.Streams {
		for _, c := range s.Consumers {
			if c.Durable == events.ConsumerScannerScan {
				return c.MaxDeliver
			}
		}
	}
	return 1
}

// publisher publishes the scanner's events.
type publisher struct{ bus *eventbus.Bus }

// Publish publishes that reports exist.
func (p publisher) Publish(ctx context.Context, id string, e *eventv1.ImageScannedEvent) error {
	return events.Publish(ctx, p.bus, id, e)
}

// PublishReferrer publishes that evidence about an image was pushed.
func (p publisher) PublishReferrer(ctx context.Context, id string, e *eventv1.ImageReferrerEvent) error {
	return events.Publish(ctx, p.bus, id, e)
}

// PublishPushed publishes that a scan was asked for.
func (p publisher) PublishPushed(ctx context.Context, id string, e *eventv1.ImagePushedEvent) error {
	return events.Publish(ctx, p.bus, id, e)
}

// PublishAdvisories publishes that another snapshot is in use.
func (p publisher) PublishAdvisories(ctx context.Context, id string, e *eventv1.AdvisoriesUpdatedEvent) error {
	return events.Publish(ctx, p.bus, id, e)
}

// Submit publishes the push of an image that nobody reported.
func (p publisher) Submit(ctx context.Context, id string, image imageref.Ref, mediaType string) error {
	return events.Publish(ctx, p.bus, id, &eventv1.ImagePushedEvent{
		Image: wire.Image(image), MediaType: mediaType, Cause: eventv1.ImagePushedEvent_CAUSE_RECONCILED,
	})
}

// Deleted publishes that an image is not in its registry any more.
func (p publisher) Deleted(ctx context.Context, id string, image imageref.Ref) error {
	return events.Publish(ctx, p.bus, id, &eventv1.ImageDeletedEvent{Image: wire.Image(image)})
}

// updated publishes that feeds brought another snapshot.
func (p publisher) updated(now func() time.Time) func(ctx context.Context, info core.SnapshotInfo) error {
	return func(ctx context.Context, info core.SnapshotInfo) error {
		id, e := wire.Updated(info, now())
		return p.PublishAdvisories(ctx, id, e)
	}
}
