package app_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/authz"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/eventbustest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	"github.com/seaworthy-dev/seaworthy/services/verifier/app"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
)

const trustDomain = eventbustest.TrustDomain

// fleet is NATS, a registry and the identities of all services; the verifier
// under test runs in it, the others are played by the test.
type fleet struct {
	t        *testing.T
	nats     *eventbustest.Server
	registry *evidencetest.Registry
	key      *evidencetest.Key
	bus      map[string]*eventbus.Bus
	db       sqldb.Config
	cfg      app.Config
	scanner  *scanner
	// verdicts are the events that the verifier published.
	verdicts chan *eventv1.VerdictReachedEvent
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{
		t: t, registry: evidencetest.NewRegistry(t), key: evidencetest.NewKey(t),
		nats: eventbustest.Start(t, events.Users(trustDomain, "test")),
		bus:  map[string]*eventbus.Bus{}, db: sqldbtest.SQLite(t),
		verdicts: make(chan *eventv1.VerdictReachedEvent, 100), scanner: &scanner{scans: map[string]*scannerv1.Scan{}},
	}
	keyFile := filepath.Join(t.TempDir(), "signer.pem")
	if err := os.WriteFile(keyFile, f.key.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	f.cfg = app.Default()
	f.cfg.Registry = f.registry.Config()
	f.cfg.Trust.Roots = []app.RootConfig{{Name: "signer", Keys: []string{keyFile}, States: attest.SignerStates()}}
	f.cfg.NATS = eventbus.Config{
		URL: f.nats.URL(), Backoff: []time.Duration{20 * time.Millisecond}, MaxDeliver: 8, DrainTimeout: 2 * time.Second,
	}
	for _, name := range []string{eventbus.Provisioner, events.Gateway, events.Scanner, events.Signer, events.Notifier} {
		f.bus[name] = f.connect(name)
	}
	f.serveScanner()
	f.background(func(ctx context.Context) error {
		return events.Consume(ctx, f.bus[events.Notifier], events.ConsumerNotifierDeliver, 1,
			func(ctx context.Context, e *eventv1.VerdictReachedEvent, _ *eventbus.Delivery) error {
				select {
				case f.verdicts <- e:
					return nil
				case <-ctx.Done():
					return ctx.Err() // a test that reads none ends all the same
				}
			})
	})
	return f
}

func (f *fleet) service(name string) *tlsx.Source {
	return f.nats.TLS(tlsx.ServiceID(trustDomain, name))
}

// connect connects a service, which waits for its streams in the background.
func (f *fleet) connect(name string) *eventbus.Bus {
	f.t.Helper()
	b := f.connectAs(name, f.service(name))
	f.background(b.Ensure)
	return b
}

// operator connects a person.
func (f *fleet) operator() *eventbus.Bus {
	f.t.Helper()
	return f.connectAs(eventbus.Operator, f.nats.TLS(tlsx.OperatorID(trustDomain, "test")))
}

func (f *fleet) connectAs(name string, as *tlsx.Source) *eventbus.Bus {
	f.t.Helper()
	b, err := events.Connect(f.t.Context(), f.cfg.NATS, name, as, obs.Discard(name))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			f.t.Logf("close bus of %s: %v", name, err)
		}
	})
	return b
}

// background runs f until the test ends.
func (f *fleet) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := run(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			f.t.Errorf("background: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	f.t.Cleanup(stop)
	return stop
}

// verifier is one running verifier.
type verifier struct {
	stop      func()
	readiness *lifecycle.Readiness
	verdicts  verifierv1.VerdictServiceClient
	policies  verifierv1.PolicyServiceClient
	except    verifierv1.ExceptionServiceClient
	vex       verifierv1.VexServiceClient
	address   string
}

// start starts the verifier on the fleet's database.
func (f *fleet) start() *verifier {
	f.t.Helper()
	return f.startWith(time.Now)
}

func (f *fleet) startWith(now func() time.Time) *verifier {
	f.t.Helper()
	db, err := sqldb.Open(f.t.Context(), f.db, "verifier")
	if err != nil {
		f.t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(f.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	v := &verifier{readiness: lifecycle.NewReadiness(), address: listener.Addr().String()}
	common := service.DefaultConfig(events.Verifier)
	a, err := app.New(f.t.Context(), f.cfg, service.Deps{
		Config: common, Name: events.Verifier, Telemetry: obs.Discard(events.Verifier), TLS: f.service(events.Verifier),
		Bus: f.connect(events.Verifier), DB: db, Readiness: v.readiness, Listener: listener, Now: now,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	stop := f.background(a.Run)
	v.stop = sync.OnceFunc(func() {
		stop()
		if err := db.Close(); err != nil {
			f.t.Errorf("close database: %v", err)
		}
	})
	f.t.Cleanup(v.stop)
	conn := f.dial(v, f.nats.TLS(tlsx.OperatorID(trustDomain, "test")))
	v.verdicts, v.policies = verifierv1.NewVerdictServiceClient(conn), verifierv1.NewPolicyServiceClient(conn)
	v.except, v.vex = verifierv1.NewExceptionServiceClient(conn), verifierv1.NewVexServiceClient(conn)
	return v
}

// signer serves the trust bundle of the fleet's key.
type signer struct {
	signerv1.UnimplementedAttestationServiceServer

	key *evidencetest.Key
	// revoked is set when the key is, and successor when there is one.
	revoked   atomic.Bool
	successor atomic.Pointer[evidencetest.Key]
	// others are in the bundle as they are.
	others []*signerv1.TrustedKey
}

func (s *signer) GetTrustBundle(context.Context, *signerv1.GetTrustBundleRequest) (*signerv1.GetTrustBundleResponse, error) {
	own := &signerv1.TrustedKey{KeyId: s.key.Trusted().ID, PublicKeyPem: string(s.key.PEM())}
	if s.revoked.Load() {
		// By a clock that is ahead.
		own.RevokeTime = timestamppb.New(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC))
	}
	out := &signerv1.GetTrustBundleResponse{Keys: append([]*signerv1.TrustedKey{own}, s.others...)}
	if k := s.successor.Load(); k != nil {
		out.Keys = append(out.Keys, &signerv1.TrustedKey{KeyId: k.Trusted().ID, PublicKeyPem: string(k.PEM())})
	}
	return out, nil
}

func (f *fleet) startSigner(address string) (stop func()) {
	f.t.Helper()
	return f.serveSigner(address, &signer{key: f.key})
}

func (f *fleet) serveSigner(address string, s *signer) (stop func()) {
	f.t.Helper()
	srv, err := grpcx.NewServer(grpcx.DefaultServerConfig(address), grpcx.ServerDeps{
		TLS: f.service(events.Signer), Telemetry: obs.Discard(events.Signer), Readiness: lifecycle.NewReadiness(),
		Authz: authz.Table{
			signerv1.AttestationService_GetTrustBundle_FullMethodName:   {Services: []string{events.Verifier}},
			signerv1.AttestationService_ListAttestations_FullMethodName: {},
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	signerv1.RegisterAttestationServiceServer(srv, s)
	return f.background(srv.Run)
}

func (f *fleet) dial(v *verifier, as *tlsx.Source) *grpc.ClientConn {
	f.t.Helper()
	conn, err := grpcx.Dial(v.address, tlsx.ServiceID(trustDomain, events.Verifier), grpcx.ClientDeps{TLS: as, Telemetry: obs.Discard("test")})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	return conn
}

func message(r imageref.Ref) *typev1.ImageRef {
	return &typev1.ImageRef{Registry: r.Registry, Repository: r.Repository, Tag: r.Tag, Digest: r.Digest}
}

// publish publishes as a service, waiting for the stream to exist.
func (f *fleet) publish(ctx context.Context, as, id string, e proto.Message) {
	f.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := events.Publish(ctx, f.bus[as], id, e)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("publish: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (f *fleet) pushed(ctx context.Context, id string, image imageref.Ref) {
	f.t.Helper()
	f.publish(ctx, events.Gateway, id, &eventv1.ImagePushedEvent{Image: message(image), Cause: eventv1.ImagePushedEvent_CAUSE_WEBHOOK})
}

func (f *fleet) attested(ctx context.Context, id string, image imageref.Ref, evidence ...*eventv1.ImageAttestedEvent_PlatformEvidence) {
	f.t.Helper()
	f.publish(ctx, events.Signer, id, &eventv1.ImageAttestedEvent{Image: message(image), Platforms: evidence})
}

// next returns the next verdict event.
func (f *fleet) next() *eventv1.VerdictReachedEvent {
	f.t.Helper()
	select {
	case e := <-f.verdicts:
		return e
	case <-time.After(30 * time.Second):
		f.t.Fatal("no verdict was published")
		return nil
	}
}

// wait asks for the verdict of an image until it has settled.
func (v *verifier) wait(t *testing.T, image imageref.Ref) *verifierv1.Verdict {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := v.verdicts.GetVerdict(ctx, &verifierv1.GetVerdictRequest{Image: message(image), Wait: true})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetVerdict()
}

func (v *verifier) get(t *testing.T, image imageref.Ref) *verifierv1.Verdict {
	t.Helper()
	r, err := v.verdicts.GetVerdict(t.Context(), &verifierv1.GetVerdictRequest{Image: message(image)})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetVerdict()
}

func code(v *verifierv1.Verdict) string {
	if len(v.GetReasons()) == 0 {
		return ""
	}
	return v.GetReasons()[0].GetCode()
}
