// Package app puts the signer together. It is the only package of the service
// that others may import.
package app

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/consumer"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/evidence"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/server"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

const name = events.Signer

// Definition is the signer, for service.Main and service.Run.
var Definition = service.Definition[Config]{
	Name:          name,
	Summary:       "attaches signed evidence and verdicts to images",
	Default:       Default,
	Common:        func(c *Config) *service.Config { return &c.Config },
	New:           New,
	NeedsDatabase: true,
}

type app struct {
	deps   service.Deps
	server *grpcx.Server
	log    store.Store
	conns  []*grpc.ClientConn
	reg    *registry.Client
	attest consumer.Attest
	vsa    consumer.VSA
	cfg    Config
	// signers are as what it signs.
	signers *signers
}

// New opens the key store and the signing log and prepares all connections. It
// waits for nobody.
func New(ctx context.Context, cfg Config, d service.Deps) (service.App, error) {
	log, err := store.New(ctx, d.DB)
	if err != nil {
		return nil, err
	}
	signers, err := openSigners(ctx, &cfg, log, d)
	if err != nil {
		return nil, err
	}
	a := &app{deps: d, cfg: cfg, log: log, signers: signers}
	if a.reg, err = registry.New(cfg.Registry.Config, d.Telemetry); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	a.reg.UseSubjectLock(func(ctx context.Context, key string) (func(), error) {
		return d.Bus.Lock(ctx, events.LocksSigner, key)
	})
	writer, err := evidence.New(log, a.reg, signers.all, cfg.Lifetime.MaxAge, d.Telemetry, d.Now)
	if err != nil {
		return nil, err
	}
	writer.EnableCircuitBreaker(cfg.Registry.MaxFailures, cfg.Registry.Cooldown)
	if cfg.Registry.LegacyAttTag {
		writer.EnableLegacyTags()
	}
	if err := a.connect(writer); err != nil {
		return nil, errors.Join(err, a.close())
	}
	//nolint:contextcheck // the server outlives this call; its Run gets a context
	a.server, err = grpcx.NewServer(d.Config.Server, grpcx.ServerDeps{
		TLS: d.TLS, Authz: server.Authz, Telemetry: d.Telemetry, Readiness: d.Readiness, Listener: d.Listener,
	})
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	server.Register(a.server, log, signers.keys, signers.trust)
	return a, nil
}

// connect prepares the clients of the scanner and the verifier and the handlers.
func (a *app) connect(writer *evidence.Writer) error {
	scanner, err := a.dial(a.cfg.ScannerAddress, events.Scanner, a.cfg.MaxReport)
	if err != nil {
		return err
	}
	verifier, err := a.dial(a.cfg.VerifierAddress, events.Verifier, 0)
	if err != nil {
		return err
	}
	log := a.deps.Telemetry.Logger
	a.attest = consumer.Attest{
		Scans: scannerv1.NewScannerServiceClient(scanner), Evidence: writer, Log: log,
		Formats: a.cfg.SBOM.Formats, MaxSBOM: int64(a.cfg.MaxSBOM),
		Publish: func(ctx context.Context, id string, e proto.Message) error {
			return events.Publish(ctx, a.deps.Bus, id, e)
		},
	}
	a.vsa = consumer.VSA{
		Verdicts: verifierv1.NewVerdictServiceClient(verifier), Evidence: writer, VerifierID: a.cfg.VerifierID,
		Log: log,
	}
	return nil
}

func (a *app) dial(address, peer string, maxMessage config.Bytes) (*grpc.ClientConn, error) {
	conn, err := grpcx.Dial(address, tlsx.ServiceID(a.deps.TLS.TrustDomain(), peer), grpcx.ClientDeps{
		TLS: a.deps.TLS, Telemetry: a.deps.Telemetry, MaxMessage: maxMessage,
	})
	if err != nil {
		return nil, err
	}
	a.conns = append(a.conns, conn)
	return conn, nil
}

// Run serves until ctx ends: the consumers stop first, then the server, then the
// connections they use are closed.
func (a *app) Run(ctx context.Context) error {
	components := []lifecycle.Component{
		{Name: "grpc", Run: a.server.Run},
		{Name: events.ConsumerSignerAttest, Run: func(ctx context.Context) error {
			return events.Consume[*eventv1.ImageScannedEvent](ctx, a.deps.Bus, events.ConsumerSignerAttest, a.cfg.Concurrency, a.attest.Handle)
		}},
		{Name: events.ConsumerSignerVSA, Run: func(ctx context.Context) error {
			return events.Consume[*eventv1.VerdictReachedEvent](ctx, a.deps.Bus, events.ConsumerSignerVSA, a.cfg.Concurrency, a.vsa.Handle)
		}},
	}
	if l := a.cfg.Lifetime; l.DeleteSuperseded {
		sweeper := &evidence.Sweeper{
			Store: a.log, Registry: a.reg, Grace: l.Grace, Interval: l.SweepInterval, Keep: l.KeepRegistries,
			Log: a.deps.Telemetry.Logger, Now: a.deps.Now,
		}
		components = append(components, lifecycle.Component{Name: "sweeper", Run: sweeper.Run})
	}
	err := lifecycle.Run(ctx, a.deps.Telemetry.Logger, a.deps.Config.StopTimeout, components...)
	return errors.Join(err, a.close())
}

func (a *app) close() error {
	var errs []error
	for _, c := range a.conns {
		errs = append(errs, c.Close())
	}
	a.reg.Close()
	a.signers.close()
	return errors.Join(errs...)
}
