package app_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/authz"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/eventbustest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/events/eventstest"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	"github.com/seaworthy-dev/seaworthy/services/signer/app"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/registrytest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

const patience = 30 * time.Second

// fleet is everything around a signer: a real bus, a real registry, and a scanner
// and a verifier that answer over real mutual TLS with what the test gave them.
type fleet struct {
	*eventstest.Fleet
	t        *testing.T
	registry *registrytest.Registry
	fakes    *fakes
	cfg      app.Config
	db       *sqldb.DB
	address  string // of the signer
	attested chan *eventv1.ImageAttestedEvent
	stop     func()
	operator *eventbus.Bus
	logger   *slog.Logger // of the signer; nil for none
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{
		Fleet: eventstest.Start(t), t: t, registry: registrytest.Start(t, false),
		fakes:    &fakes{scans: map[string]*scannerv1.Scan{}, sboms: map[string][]byte{}, verdicts: map[string]*verifierv1.Verdict{}},
		attested: make(chan *eventv1.ImageAttestedEvent, 64),
	}
	f.operator = f.Bus(eventbus.Operator)
	f.cfg = app.Default()
	f.cfg.Registry.Config = f.registry.Config()
	f.cfg.Registry.MaxAttempts = 1
	f.cfg.Keystore = app.KeystoreConfig{Dir: newKey(t), Algorithm: keystore.ECDSAP256, Password: config.Secret{Value: "password"}}
	f.cfg.ScannerAddress = f.serve(events.Scanner, scannerv1.ScannerService_ServiceDesc, func(s *grpcx.Server) {
		scannerv1.RegisterScannerServiceServer(s, &fakeScanner{fakes: f.fakes})
	})
	f.cfg.VerifierAddress = f.serve(events.Verifier, verifierv1.VerdictService_ServiceDesc, func(s *grpcx.Server) {
		verifierv1.RegisterVerdictServiceServer(s, &fakeVerifier{fakes: f.fakes})
	})
	var err error
	if f.db, err = sqldb.Open(t.Context(), sqldbtest.SQLite(t), store.Schema); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.db.Close() })
	f.background("verifier's consumer", func(ctx context.Context, bus *eventbus.Bus) error {
		return events.Consume(ctx, bus, events.ConsumerVerifierEvaluate, 1, func(_ context.Context, e *eventv1.ImageAttestedEvent, _ *eventbus.Delivery) error {
			f.attested <- e
			return nil
		})
	})
	return f
}

// newKey makes a key store with the cheapest parameters that the format has:
// scrypt is meant to be slow, and under the race detector it is.
func newKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	box, err := encrypted.EncryptWithCustomKDFParameters(der, []byte("password"), encrypted.Legacy)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED SIGSTORE PRIVATE KEY", Bytes: box})
	if err := os.WriteFile(filepath.Join(dir, keystore.PrivateFile), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// background runs what the verifier does with its bus until the test ends.
func (f *fleet) background(name string, run func(context.Context, *eventbus.Bus) error) {
	f.t.Helper()
	bus := f.Bus(events.Verifier)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, bus) }()
	f.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("%s: %v", name, err)
		}
	})
}

// serve runs a fake as the service of that name; only the signer may call it.
func (f *fleet) serve(name string, desc grpc.ServiceDesc, register func(*grpcx.Server)) string {
	f.t.Helper()
	table := authz.Table{}
	for _, m := range desc.Methods {
		table["/"+desc.ServiceName+"/"+m.MethodName] = authz.Rule{Services: []string{events.Signer}}
	}
	for _, m := range desc.Streams {
		table["/"+desc.ServiceName+"/"+m.StreamName] = authz.Rule{Services: []string{events.Signer}}
	}
	s, err := grpcx.NewServer(grpcx.DefaultServerConfig("127.0.0.1:0"), grpcx.ServerDeps{
		TLS:   f.TLS(tlsx.ServiceID(eventbustest.TrustDomain, name)),
		Authz: table, Telemetry: obs.Discard(name), Readiness: lifecycle.NewReadiness(),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	register(s)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	f.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("%s: %v", name, err)
		}
	})
	return s.Addr()
}

// start starts a signer on the fleet's database and key store; it stops with
// f.stop or the test.
func (f *fleet) start() {
	f.t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(f.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	f.address = listener.Addr().String()
	a, err := app.New(f.t.Context(), f.cfg, f.deps(listener))
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("signer: %v", err)
		}
	})
	f.t.Cleanup(f.stop)
}

// dial connects to the signer as somebody.
func (f *fleet) dial(id string) *grpc.ClientConn {
	f.t.Helper()
	conn, err := grpcx.Dial(f.address, tlsx.ServiceID(eventbustest.TrustDomain, events.Signer), grpcx.ClientDeps{
		TLS: f.TLS(id), Telemetry: obs.Discard("test"),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	return conn
}

// roots are what the signer itself says is to be trusted.
func (f *fleet) deps(listener net.Listener) service.Deps {
	telemetry := obs.Discard(events.Signer)
	if f.logger != nil {
		telemetry.Logger = f.logger
	}
	return service.Deps{
		Config: f.cfg.Config, Name: events.Signer, Telemetry: telemetry,
		TLS: f.TLS(tlsx.ServiceID(eventbustest.TrustDomain, events.Signer)), Bus: f.BusWith(events.Signer, telemetry),
		DB: f.db, Readiness: lifecycle.NewReadiness(), Listener: listener, Now: time.Now,
	}
}

// tryStart is for signers that do not start.
func (f *fleet) tryStart() error {
	f.t.Helper()
	_, err := app.New(f.t.Context(), f.cfg, f.deps(nil))
	return err
}

func (f *fleet) roots() attest.TrustRoots {
	f.t.Helper()
	var roots attest.TrustRoots
	bundle := f.trustBundle()
	for _, k := range bundle.GetKeys() {
		roots.Keys = append(roots.Keys, trusted(f.t, k))
	}
	for _, i := range bundle.GetIdentities() {
		roots.Identities = append(roots.Identities, attest.TrustedIdentity{
			ID: i.GetName(), Issuer: i.GetIssuer(), Subject: i.GetSubject(),
			RequireLog: i.GetLog(), RequireTimestamp: i.GetTimestamp(), RequireSCT: i.GetSct(),
		})
	}
	var err error
	if roots.Sigstore, err = attest.ParseSigstoreRoot([]byte(bundle.GetTrustedRootJson())); err != nil {
		f.t.Fatal(err)
	}
	return roots
}

func (f *fleet) trustBundle() *signerv1.GetTrustBundleResponse {
	f.t.Helper()
	c := signerv1.NewAttestationServiceClient(f.dial(tlsx.ServiceID(eventbustest.TrustDomain, events.Verifier)))
	bundle, err := c.GetTrustBundle(f.t.Context(), &signerv1.GetTrustBundleRequest{})
	if err != nil {
		f.t.Fatal(err)
	}
	return bundle
}

// publish publishes an event of a service in a new trace and returns the trace.
func (f *fleet) publish(from, id string, e proto.Message) string {
	f.t.Helper()
	t := obs.Discard(from)
	ctx, span := t.Tracer().Start(f.t.Context(), "test")
	defer span.End()
	if err := events.Publish(ctx, f.BusWith(from, t), id, e); err != nil {
		f.t.Fatal(err)
	}
	return obs.TraceID(ctx)
}

func (f *fleet) nextAttested() *eventv1.ImageAttestedEvent {
	f.t.Helper()
	select {
	case e := <-f.attested:
		return e
	case <-time.After(patience):
		f.t.Fatalf("no ImageAttested event; dead letters: %v", f.deadLetters())
		return nil
	}
}

func (f *fleet) deadLetters() []events.DeadLetter {
	f.t.Helper()
	letters, err := events.WaitingDeadLetters(f.t.Context(), f.operator, 1, 100)
	if err != nil {
		f.t.Fatal(err)
	}
	return letters
}

// deadLetter waits for the dead letter number n, from 0.
func (f *fleet) deadLetter(n int) *eventv1.DeadLetterEvent {
	f.t.Helper()
	var letters []events.DeadLetter
	f.eventually("a dead letter", func() bool { letters = f.deadLetters(); return len(letters) > n })
	return letters[n].Event
}

// eventually waits until a condition holds.
func (f *fleet) eventually(what string, holds func() bool) {
	f.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !holds(); <-tick.C {
		if time.Now().After(end) {
			f.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// scanned makes a scan of the manifests of an image, has the fake scanner know
// it, and returns its event.
func (f *fleet) scanned(scanID string, image imageref.Ref, manifests ...imageref.Ref) *eventv1.ImageScannedEvent {
	f.t.Helper()
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ref := &typev1.ImageRef{Registry: image.Registry, Repository: image.Repository, Tag: "latest", Digest: image.Digest}
	scan := &scannerv1.Scan{
		ScanId: scanID, Image: ref, State: scannerv1.Scan_STATE_SUCCEEDED,
		CreateTime: timestamppb.New(start), EndTime: timestamppb.New(start.Add(time.Second)),
	}
	e := &eventv1.ImageScannedEvent{Image: ref, ScanId: scanID, Cause: eventv1.ImageScannedEvent_CAUSE_PUSH}
	for _, m := range manifests {
		r := &scannerv1.Report{
			ImageDigest: m.Digest, Platform: &typev1.Platform{Os: "linux", Architecture: "amd64"},
			Snapshot: &scannerv1.SnapshotInfo{Digest: core.Digest([]byte("snapshot")), DataTime: timestamppb.New(start)},
			Scanner:  &scannerv1.ScannerInfo{Uri: "https://seaworthy.dev/scanner", Version: "test"},
			Packages: []*scannerv1.Package{{Purl: "pkg:golang/golang.org/x/text@v0.3.7", Name: "golang.org/x/text", Version: "v0.3.7"}},
			Findings: []*scannerv1.Finding{{
				Id: "CVE-2022-32149", Purl: "pkg:golang/golang.org/x/text@v0.3.7", Severity: typev1.Severity_SEVERITY_HIGH, CvssScore: 7.5,
			}},
			PackageCount: 1, FindingCount: 1,
		}
		scan.Reports = append(scan.Reports, r)
		e.Platforms = append(e.Platforms, &eventv1.ImageScannedEvent_PlatformScan{
			Digest: m.Digest, Platform: r.GetPlatform(), ReportDigest: core.Digest(canonical(f.t, r)),
		})
		f.fakes.set(func(k *fakes) { k.sboms[m.Digest] = spdx(m.Digest) })
	}
	f.fakes.set(func(k *fakes) { k.scans[scanID] = scan })
	return e
}

func canonical(t *testing.T, m proto.Message) []byte {
	t.Helper()
	loose, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, loose); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func spdx(digest string) []byte {
	return []byte(`{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","dataLicense":"CC0-1.0","name":"app",` +
		`"documentNamespace":"https://seaworthy.dev/spdx/1","creationInfo":{"created":"2026-03-01T12:00:00Z"},` +
		`"packages":[{"SPDXID":"SPDXRef-Image","name":"app","versionInfo":"` + digest + `"}],` +
		`"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-Image"}],` +
		`"comment":"` + strings.Repeat("x", 100<<10) + `"}`)
}

func cyclonedx(digest string) []byte {
	return []byte(`{"bomFormat":"CycloneDX","specVersion":"1.6","serialNumber":"urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79","version":1,` +
		`"metadata":{"timestamp":"2026-03-01T12:00:00Z","component":{"bom-ref":"Image","type":"container","name":"app","version":"` + digest + `"}},"components":[]}`)
}

// fakes is what the fake services know.
type fakes struct {
	mu       sync.Mutex
	scans    map[string]*scannerv1.Scan
	sboms    map[string][]byte
	verdicts map[string]*verifierv1.Verdict
	asked    chan string // scans that were asked for, if somebody wants to know
}

// watchScans tells which scans are asked for from now on.
func (k *fakes) watchScans() <-chan string {
	c := make(chan string, 1000)
	k.set(func(k *fakes) { k.asked = c })
	return c
}

func (k *fakes) set(f func(*fakes)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(k)
}

func (k *fakes) verdict(image string) *verifierv1.Verdict {
	k.mu.Lock()
	defer k.mu.Unlock()
	return proto.CloneOf(k.verdicts[image])
}

type fakeScanner struct {
	scannerv1.UnimplementedScannerServiceServer
	*fakes
}

func (s *fakeScanner) GetScan(_ context.Context, req *scannerv1.GetScanRequest) (*scannerv1.GetScanResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.asked <- req.GetScanId():
	default:
	}
	scan, ok := s.scans[req.GetScanId()]
	if !ok {
		return nil, apierr.New(codes.NotFound, "SCAN_NOT_FOUND", "no such scan")
	}
	if req.GetView() != scannerv1.ScanView_SCAN_VIEW_FULL {
		return nil, apierr.InvalidField("view", "the test wants the whole scan to be asked for")
	}
	return &scannerv1.GetScanResponse{Scan: scan}, nil
}

func (s *fakeScanner) GetSbom(req *scannerv1.GetSbomRequest, stream grpc.ServerStreamingServer[scannerv1.GetSbomResponse]) error {
	s.mu.Lock()
	doc, ok := s.sboms[req.GetImage().GetDigest()]
	s.mu.Unlock()
	if !ok {
		return apierr.New(codes.NotFound, "SCAN_NOT_FOUND", "no such manifest")
	}
	if req.GetFormat() == scannerv1.SbomFormat_SBOM_FORMAT_CYCLONEDX_JSON {
		doc = cyclonedx(req.GetImage().GetDigest())
	}
	for len(doc) > 0 {
		n := min(len(doc), 64<<10)
		if err := stream.Send(&scannerv1.GetSbomResponse{Chunk: doc[:n]}); err != nil {
			return err
		}
		doc = doc[n:]
	}
	return nil
}

type fakeVerifier struct {
	verifierv1.UnimplementedVerdictServiceServer
	*fakes
}

func (s *fakeVerifier) GetVerdict(_ context.Context, req *verifierv1.GetVerdictRequest) (*verifierv1.GetVerdictResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.verdicts[req.GetImage().GetDigest()]
	if !ok {
		return nil, apierr.New(codes.Unavailable, "UNAVAILABLE", "not yet")
	}
	return &verifierv1.GetVerdictResponse{Verdict: v}, nil
}
