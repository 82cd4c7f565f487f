// Package app puts the verifier together. It is the service's only importable
// package: its main and the all-in-one start the service through Definition.
package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/lru"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/consumer"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/exception"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/outbox"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policywatch"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/replay"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/server"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/trust"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/wake"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/warm"
)

const name = events.Verifier

// Definition is the verifier.
var Definition = service.Definition[Config]{
	Name:          name,
	Summary:       "The verifier judges images by signed evidence and policies.",
	Default:       Default,
	Common:        func(c *Config) *service.Config { return &c.Config },
	New:           New,
	NeedsDatabase: true,
}

// pushesConcurrency is the number of pushes, of scans and of dead letters noted at a time.
const pushesConcurrency = 4

// App is the verifier, ready to run.
type App struct {
	deps       service.Deps
	registry   *registry.Client
	signer     *grpc.ClientConn
	scanner    *grpc.ClientConn
	server     *grpcx.Server
	components []lifecycle.Component
}

// New puts the verifier together: it migrates the database and loads policies
// and keys. It does not wait for other services.
func New(ctx context.Context, cfg Config, d service.Deps) (service.App, error) {
	if err := d.DB.Migrate(ctx, store.Migrations()); err != nil {
		return nil, fmt.Errorf("migrate database: %w", err)
	}
	loader, err := policy.NewLoader()
	if err != nil {
		return nil, err
	}
	a := &App{deps: d}
	if a.registry, err = registry.New(cfg.Registry, d.Telemetry); err != nil {
		return nil, fmt.Errorf("registry client: %w", err)
	}
	hub := &wake.Hub{}
	base := store.New(d.DB)
	cache := warm.New(warm.Options{
		Source: base, Limit: int64(cfg.Limits.VerdictCache), Now: d.Now, Changed: hub.Changed, Log: d.Telemetry.Logger,
	})
	kept := warm.Store{Store: base, Cache: cache}
	roots, err := a.trust(ctx, cfg.Trust, kept)
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	watch, err := a.watchPolicies(ctx, cfg.Policies, kept, loader)
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	if a.server, err = grpcx.NewServer(cfg.Server, grpcx.ServerDeps{ //nolint:contextcheck // the server lives as long as Run's context
		TLS: d.TLS, Authz: authzTable(), Telemetry: d.Telemetry, Readiness: d.Readiness, Listener: d.Listener,
		Quiet: []string{verifierv1.VerdictService_GetVerdict_FullMethodName, verifierv1.VerdictService_BatchGetVerdicts_FullMethodName},
	}); err != nil {
		return nil, errors.Join(fmt.Errorf("gRPC server: %w", err), a.close())
	}
	replayer := &replay.Replayer{
		Documents: kept, Loader: loader, Decoded: lru.New[string, record.Reading](int64(cfg.Limits.EvidenceCache), nil),
	}
	authors, err := cfg.vexAuthors()
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	replayer.Trusted = trusted(roots, d.Now)
	replayer.TrustedVex = func(doc core.VexDocument) bool { return authors.Believes(doc, d.Now()) }
	rules := &consumer.RuleBook{Store: kept, Loader: loader, Authors: authors, Log: d.Telemetry.Logger, Now: d.Now}
	auditor := server.Auditor{Propagator: d.Telemetry.Propagator, Now: d.Now}
	verifierv1.RegisterPolicyServiceServer(a.server, server.NewPolicies(server.PoliciesDeps{
		Store: kept, Loader: loader, Replayer: replayer, Rules: rules.Current,
		Auditor: auditor, Changed: hub.Notify, CatchUp: cache.CatchUp,
	}))
	verifierv1.RegisterExceptionServiceServer(a.server, server.NewExceptions(kept, auditor))
	if err := syncExceptions(ctx, kept, cfg.Exceptions, fromFiles("exceptions.files", d)); err != nil {
		return nil, errors.Join(err, a.close())
	}
	verifierv1.RegisterVexServiceServer(a.server, server.NewVex(kept, authors, auditor))
	verifierv1.RegisterDeadLetterServiceServer(a.server, server.NewDeadLetters(kept))
	if err := syncVex(ctx, kept, cfg, authors, fromFiles("vex.files", d)); err != nil {
		return nil, errors.Join(err, a.close())
	}
	recorder, err := consumer.NewRecorder(kept, hub, consumer.Patience{
		Overtaken: cfg.Overdue.OvertakenAfter, Longest: cfg.Overdue.After,
	}, d.Telemetry)
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	scans := &consumer.Scans{Recorder: recorder, Now: d.Now}
	a.scanner, err = grpcx.Dial(cfg.ScannerAddress, tlsx.ServiceID(d.TLS.TrustDomain(), events.Scanner),
		grpcx.ClientDeps{TLS: d.TLS, Telemetry: d.Telemetry})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("scanner client: %w", err), a.close())
	}
	scans.Scanner = scannerv1.NewScannerServiceClient(a.scanner)
	backlog, err := newBacklog(d)
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	evaluator := a.evaluator(cfg, recorder, roots, rules)
	server.NewVerdicts(server.Deps{
		Store: kept, Cache: cache, Resolver: server.NewResolver(a.registry.Resolve, d.Now), Hub: hub,
		Replayer: replayer, Now: d.Now, Refresher: server.NewRefresher(refresh(evaluator), d.Now),
	}).Register(a.server)
	a.components = append(a.components, lifecycle.Component{Name: "warm", Run: cache.Run})
	a.wire(cfg, recorder, roots, evaluator, replayer, scans, backlog)
	a.components = append(a.components, lifecycle.Component{Name: "policies", Run: watch.Run})
	return a, nil
}

// evaluator makes what judges images by what their registry has.
func (a *App) evaluator(cfg Config, recorder *consumer.Recorder, roots *trust.Source, rules *consumer.RuleBook) *consumer.Evaluator {
	d := a.deps
	return &consumer.Evaluator{
		Recorder: recorder,
		Evidence: evidence.NewCollector(a.registry, roots, rules.Authors, evidence.Limits{
			MaxAttestations: cfg.Limits.MaxAttestations,
			MaxAttestation:  int64(cfg.Limits.MaxAttestation),
			MaxTotal:        int64(cfg.Limits.MaxAttestationsTotal),
			Cache:           int64(cfg.Limits.VerificationCache),
		}, d.Telemetry.Logger, d.Now),
		Authors: rules.Authors,
		Rules:   rules.Current,
		Now:     d.Now,
	}
}

// refresh reads the evidence of an image again when somebody asks for it. An image that
// may be gone is left to the looks, which confirm it.
func refresh(e *consumer.Evaluator) func(context.Context, imageref.Ref) error {
	return func(ctx context.Context, image imageref.Ref) error {
		_, err := e.Reread(ctx, image)
		switch {
		case errors.Is(err, consumer.ErrNotJudged):
			return server.ErrNotJudged
		case errors.Is(err, evidence.ErrNotFound):
			if err := e.Recorder.Store.RequestLook(ctx, image, e.Now(), e.Now()); err != nil {
				return err
			}
			return fmt.Errorf("%w: %w", server.ErrGone, err)
		case errors.Is(err, evidence.ErrRefused), errors.Is(err, evidence.ErrNotAnImage):
			return fmt.Errorf("%w: %w", server.ErrRefused, err)
		default:
			return err
		}
	}
}

// wire lists what runs, in the order of starting.
func (a *App) wire(cfg Config, recorder *consumer.Recorder, roots *trust.Source, evaluator *consumer.Evaluator, replayer *replay.Replayer, scans *consumer.Scans, backlog *backlog) {
	d := a.deps
	log := d.Telemetry.Logger
	again := &consumer.Reevaluator{
		Evaluator: evaluator, Replayer: replayer, Holder: rand.Text(), Tracer: d.Telemetry.Tracer(),
		Backlog: backlog.report,
		Trusted: trusted(roots, d.Now),
		SyncTrust: func(ctx context.Context) error {
			fingerprint, err := roots.Fingerprint()
			if errors.Is(err, trust.ErrNoTrust) {
				return nil // nothing is judged without
			}
			if err != nil {
				return err
			}
			return recorder.Store.SyncTrust(ctx, fingerprint,
				store.Cause{Kind: core.CauseTrust, Detail: "the trust roots have changed"}, fromFiles("trust.roots", d))
		},
	}
	pushes := &consumer.Pushes{Store: recorder.Store, Hub: recorder.Hub, Resolve: a.registry.Resolve, Pauses: consumer.AskAgain, Log: log, Now: d.Now}
	hints := &consumer.Hints{Store: recorder.Store, Now: d.Now}
	looker := &consumer.Looker{
		Evaluator: evaluator, Patience: cfg.Evidence.Patience, Concurrency: cfg.Evidence.LookConcurrency,
		Holder: rand.Text(), Tracer: d.Telemetry.Tracer(),
	}
	deadLetters := &consumer.DeadLetters{Recorder: recorder, Scans: scans, Now: d.Now}
	drain := &outbox.Drain{
		Store: recorder.Store, Propagator: d.Telemetry.Propagator, Hub: recorder.Hub, Log: log,
		Publish: func(ctx context.Context, id string, e proto.Message) error { return events.Publish(ctx, d.Bus, id, e) },
	}
	a.components = append(a.components, []lifecycle.Component{
		{Name: "trust", Run: roots.Run},
		{Name: "server", Run: a.server.Run},
		{Name: "outbox", Run: drain.Run},
		{Name: "reevaluate", Run: again.Run},
		{Name: events.ConsumerVerifierPushes, Run: consume(d.Bus, events.ConsumerVerifierPushes, pushesConcurrency, pushes.Handle)},
		{Name: events.ConsumerVerifierScans, Run: consume(d.Bus, events.ConsumerVerifierScans, pushesConcurrency, scans.Handle)},
		{Name: events.ConsumerVerifierEvaluate, Run: func(ctx context.Context) error {
			// Without trust roots every attempt would fail and use up the message.
			if err := roots.Wait(ctx); err != nil {
				return nil //nolint:nilerr // the service stops while it waits, which is no failure
			}
			return events.Consume(ctx, d.Bus, events.ConsumerVerifierEvaluate, cfg.Concurrency, evaluator.Handle)
		}},
		{Name: "looks", Run: func(ctx context.Context) error {
			// Without trust roots a look would find nothing that counts.
			if err := roots.Wait(ctx); err != nil {
				return nil //nolint:nilerr // the service stops while it waits, which is no failure
			}
			return looker.Run(ctx)
		}},
		{Name: events.ConsumerVerifierReferrers, Run: consume(d.Bus, events.ConsumerVerifierReferrers, pushesConcurrency, hints.Referrer)},
		{Name: events.ConsumerVerifierDeletions, Run: consume(d.Bus, events.ConsumerVerifierDeletions, pushesConcurrency, hints.Deleted)},
		{Name: events.ConsumerVerifierDeadLetters, Run: func(ctx context.Context) error {
			return d.Bus.Consume(ctx, events.ConsumerVerifierDeadLetters, pushesConcurrency, deadLetters.Handle)
		}},
	}...)
}

// trusted tells whether a recorded attestation would be evidence now.
func trusted(roots *trust.Source, now func() time.Time) func(core.Attestation) bool {
	return func(a core.Attestation) bool {
		keys, _, err := roots.Roots()
		keys.At = now()
		return err == nil && evidence.Believed(keys, a)
	}
}

func consume[T proto.Message](bus *eventbus.Bus, durable string, concurrency int, h func(context.Context, T, *eventbus.Delivery) error) func(context.Context) error {
	return func(ctx context.Context) error { return events.Consume(ctx, bus, durable, concurrency, h) }
}

// Run serves until ctx ends.
func (a *App) Run(ctx context.Context) error {
	err := lifecycle.Run(ctx, a.deps.Telemetry.Logger, a.deps.Config.StopTimeout, a.components...)
	return errors.Join(err, a.close())
}

func (a *App) close() error {
	a.registry.Close()
	var errs []error
	for _, conn := range []*grpc.ClientConn{a.signer, a.scanner} {
		if conn != nil {
			errs = append(errs, conn.Close())
		}
	}
	return errors.Join(errs...)
}

// watchPolicies takes the policies of files over; what it returns keeps doing so.
func (a *App) watchPolicies(ctx context.Context, cfg PoliciesConfig, kept store.Store, loader *policy.Loader) (*policywatch.Watch, error) {
	w := &policywatch.Watch{
		Source: cfg.source(), Loader: loader, Store: kept, Actor: a.deps.TLS.ID(), Every: cfg.Refresh,
		Now: a.deps.Now, Log: a.deps.Telemetry.Logger,
		// The last good policies judge on, so this is no reason to take the replica away.
		Report: func(err error) { a.deps.Readiness.Set("policies", lifecycle.Degraded(err)) },
	}
	if err := w.Instrument(a.deps.Telemetry.Meter()); err != nil {
		return nil, err
	}
	if err := w.Start(ctx); err != nil {
		return nil, fmt.Errorf("load policies: %w", err)
	}
	return w, nil
}

// fromFiles says that files changed something, which the service found at its start.
func fromFiles(action string, d service.Deps) store.Audit {
	return store.Audit{ID: rand.Text(), Time: d.Now(), Actor: d.TLS.ID(), Action: action, Headers: "{}"}
}

// syncExceptions makes the stored exceptions of files those that are in the files
// now.
func syncExceptions(ctx context.Context, kept store.Store, cfg ExceptionsConfig, by store.Audit) error {
	set, err := exception.Load(cfg.Dir, cfg.Files)
	if err != nil {
		return fmt.Errorf("load exceptions: %w", err)
	}
	all := make([]store.Exception, 0, len(set))
	for i := range set {
		body, _, err := set[i].Encode()
		if err != nil {
			return err
		}
		all = append(all, store.Exception{Name: set[i].Name, FromFile: true, CreateTime: by.Time, Body: body})
	}
	return kept.SyncExceptions(ctx, all, store.Cause{Kind: core.CauseException, Detail: "the files of exceptions have changed"}, by)
}

// trust makes the source of trust roots; readiness shows whether any is known.
func (a *App) trust(ctx context.Context, cfg TrustConfig, cache trust.Cache) (*trust.Source, error) {
	fixed, err := cfg.fixedRoots()
	if err != nil {
		return nil, err
	}
	root, _, err := sigstoreRoot(cfg.SigstoreRoot)
	if err != nil {
		return nil, err
	}
	o := trust.Options{
		Fixed: fixed, Sigstore: root, Cache: cache, Refresh: cfg.Refresh, Log: a.deps.Telemetry.Logger, Now: a.deps.Now,
		Report: func(err error) { a.deps.Readiness.Set("trust", err) },
	}
	if cfg.SignerAddress != "" {
		a.signer, err = grpcx.Dial(cfg.SignerAddress, tlsx.ServiceID(a.deps.TLS.TrustDomain(), events.Signer),
			grpcx.ClientDeps{TLS: a.deps.TLS, Telemetry: a.deps.Telemetry})
		if err != nil {
			return nil, fmt.Errorf("signer client: %w", err)
		}
		o.Bundles = signerBundles{signerv1.NewAttestationServiceClient(a.signer)}
	}
	return trust.New(ctx, o)
}

// signerBundles asks the signer for its trust bundle.
type signerBundles struct {
	client signerv1.AttestationServiceClient
}

// GetTrustBundle implements trust.Bundles.
func (b signerBundles) GetTrustBundle(ctx context.Context) (*signerv1.GetTrustBundleResponse, error) {
	return b.client.GetTrustBundle(ctx, &signerv1.GetTrustBundleRequest{})
}
