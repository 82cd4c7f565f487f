package command_test

import (
	"context"
	"flag"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/registry"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/fleetcontext"
	"github.com/seaworthy-dev/seaworthy/cmd/seaworthyctl/internal/command"
	notifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/notifier/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/authz"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/testkit/output"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	domain  = fleetcontext.DefaultTrustDomain
	digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
)

// now is the time of every run.
var now = time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)

// testFleet is four servers with real mutual TLS, whose answers a test sets.
type testFleet struct {
	t       *testing.T
	dir     string
	ca      *tlsx.CA
	context *fleetcontext.Context
	file    string

	scanner  *fakeScanner
	signer   *fakeSigner
	keys     *fakeKeys
	verifier *fakeVerifier
	notifier *fakeNotifier
	policies *fakePolicies
	// operator reads the dead letters in NATS for the fake verifier.
	operator *eventbus.Bus
}

func newFleet(t *testing.T) *testFleet {
	t.Helper()
	dir := t.TempDir()
	ca, err := tlsx.LoadOrCreateCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := &testFleet{
		t: t, dir: dir, ca: ca, context: fleetcontext.New(), file: filepath.Join(dir, "context.yaml"),
		scanner: &fakeScanner{}, signer: &fakeSigner{}, verifier: &fakeVerifier{}, notifier: &fakeNotifier{}, policies: &fakePolicies{},
	}
	f.keys = &fakeKeys{signer: f.signer}
	f.context.Registry = fleetcontext.Registry{Host: "registry.test:5000", Insecure: true}
	f.context.Addresses = fleetcontext.Addresses{
		Scanner: f.serve("scanner", func(s grpc.ServiceRegistrar) {
			scannerv1.RegisterScannerServiceServer(s, f.scanner)
			scannerv1.RegisterAdvisoryServiceServer(s, fakeAdvisories{scanner: f.scanner})
		}, &scannerv1.ScannerService_ServiceDesc, &scannerv1.AdvisoryService_ServiceDesc),
		Signer: f.serve("signer", func(s grpc.ServiceRegistrar) {
			signerv1.RegisterAttestationServiceServer(s, f.signer)
			signerv1.RegisterKeyAdminServiceServer(s, f.keys)
		}, &signerv1.AttestationService_ServiceDesc, &signerv1.KeyAdminService_ServiceDesc),
		Verifier: f.serve("verifier", func(s grpc.ServiceRegistrar) {
			verifierv1.RegisterVerdictServiceServer(s, f.verifier)
			verifierv1.RegisterExceptionServiceServer(s, fakeExceptions{verifier: f.verifier})
			verifierv1.RegisterPolicyServiceServer(s, f.policies)
			verifierv1.RegisterVexServiceServer(s, fakeVex{verifier: f.verifier})
			verifierv1.RegisterDeadLetterServiceServer(s, fakeLetters{fleet: f})
		}, &verifierv1.DeadLetterService_ServiceDesc, &verifierv1.VerdictService_ServiceDesc, &verifierv1.PolicyService_ServiceDesc, &verifierv1.ExceptionService_ServiceDesc, &verifierv1.VexService_ServiceDesc),
		Notifier: f.serve("notifier", func(s grpc.ServiceRegistrar) {
			notifierv1.RegisterDeliveryServiceServer(s, f.notifier)
		}, &notifierv1.DeliveryService_ServiceDesc),
	}
	f.as(tlsx.OperatorID(domain, "admin"))
	return f
}

func (f *testFleet) issue(name, id string) tlsx.Config {
	f.t.Helper()
	cfg, err := f.ca.Issue(f.dir, name, id, time.Hour)
	if err != nil {
		f.t.Fatal(err)
	}
	return cfg
}

func (f *testFleet) source(name, id string) *tlsx.Source {
	f.t.Helper()
	s, err := tlsx.NewSource(f.issue(name, id))
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// as makes the context that of the identity.
func (f *testFleet) as(id string) {
	f.t.Helper()
	f.context.TLS = f.issue("caller", id)
	f.save()
}

func (f *testFleet) save() {
	f.t.Helper()
	if err := fleetcontext.Save(f.file, f.context); err != nil {
		f.t.Fatal(err)
	}
}

// serve starts a server as the service; operators and clients may call it all,
// but only operators may import.
func (f *testFleet) serve(service string, register func(grpc.ServiceRegistrar), descs ...*grpc.ServiceDesc) (address string) {
	f.t.Helper()
	table := authz.Table{}
	for _, d := range descs {
		for _, m := range d.Methods {
			table["/"+d.ServiceName+"/"+m.MethodName] = authz.Rule{Operators: true, Clients: true}
		}
		for _, m := range d.Streams {
			table["/"+d.ServiceName+"/"+m.StreamName] = authz.Rule{Operators: true, Clients: m.StreamName != "ImportSnapshot"}
		}
	}
	server, err := grpcx.NewServer(grpcx.DefaultServerConfig("127.0.0.1:0"), grpcx.ServerDeps{
		TLS: f.source(service, tlsx.ServiceID(domain, service)), Authz: table,
		Telemetry: obs.Discard(service), Readiness: lifecycle.NewReadiness(),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	register(server)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	f.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("%s: %v", service, err)
		}
	})
	return server.Addr()
}

// registry starts an empty registry with the referrers API as the fleet's own.
func (f *testFleet) registry() (host string) {
	f.t.Helper()
	srv := httptest.NewServer(registry.New(
		registry.WithReferrersSupport(true), registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo))))
	f.t.Cleanup(srv.Close)
	host = strings.TrimPrefix(srv.URL, "http://")
	f.context.Registry = fleetcontext.Registry{Host: host, Insecure: true}
	f.save()
	return host
}

// result is what a run left behind.
type result struct {
	code     int
	out, err string
}

func runWith(ctx context.Context, places fleetcontext.Places, args ...string) result {
	var out, errOut output.Buffer
	env := command.Env{
		Out: &out, Err: &errOut, Now: func() time.Time { return now },
		Places: func(flag string) fleetcontext.Places { places.Flag = flag; return places },
	}
	code := command.Run(ctx, args, env)
	return result{code, out.String(), errOut.String()}
}

// run runs a command against the fleet.
func (f *testFleet) run(args ...string) result {
	f.t.Helper()
	return runWith(f.t.Context(), fleetcontext.Places{}, append([]string{"--context", f.file}, args...)...)
}

// mask makes a run's text the same in every run.
func (f *testFleet) mask(s string) string {
	return strings.NewReplacer(
		f.dir, "DIR",
		f.context.Addresses.Scanner, "SCANNER", f.context.Addresses.Signer, "SIGNER",
		f.context.Addresses.Verifier, "VERIFIER", f.context.Addresses.Notifier, "NOTIFIER",
	).Replace(s)
}

// golden compares a run with testdata/name.golden.
func (f *testFleet) golden(name string, r result) {
	f.t.Helper()
	path := filepath.Join("testdata", name+".golden")
	got := "exit code " + string(rune('0'+r.code)) + "\n--- stdout\n" + f.mask(r.out) + "--- stderr\n" + f.mask(r.err)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			f.t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		f.t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		f.t.Errorf("%s (-want +got; run with -update to accept):\n%s", path, d)
	}
}
