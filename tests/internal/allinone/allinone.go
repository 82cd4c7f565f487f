// Package allinone runs the all-in-one inside a test.
package allinone

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/fleet"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/testkit/output"
	"github.com/seaworthy-dev/seaworthy/pkg/testkit/ports"
	"github.com/seaworthy-dev/seaworthy/tests/internal/repo"
)

// startTimeout is generous: the race detector on two busy cores is slow.
const startTimeout = 90 * time.Second

// AllInOne is a running all-in-one and connections to it.
type AllInOne struct {
	*fleet.Fleet

	Scanner    scannerv1.ScannerServiceClient
	Advisories scannerv1.AdvisoryServiceClient
	Signer     signerv1.AttestationServiceClient
	Verifier   verifierv1.VerdictServiceClient
	Exceptions verifierv1.ExceptionServiceClient
	// NATS sees every event pass.
	NATS *nats.Conn
	// Logs are those of all services.
	Logs *output.Buffer
}

// Start starts an all-in-one in a directory of the test, with the advisories of the
// repository. Configure may change its configuration.
func Start(t *testing.T, configure func(*fleet.Config)) *AllInOne {
	t.Helper()
	cfg := fleet.Default()
	cfg.DataDir = t.TempDir()
	cfg.Ports = fleet.Ports{
		Gateway: ports.Free(t), Registry: ports.Free(t), NATS: ports.Free(t), Scanner: ports.Free(t),
		Signer: ports.Free(t), Verifier: ports.Free(t), Notifier: ports.Free(t),
	}
	cfg.Scanner.Advisories.Seed = []string{filepath.Join(repo.Root(t), "deploy", "advisories")}
	if configure != nil {
		configure(&cfg)
	}
	logs := &output.Buffer{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, ended := make(chan *fleet.Fleet, 1), make(chan error, 1)
	go func() { ended <- fleet.Run(ctx, cfg, logs, func(f *fleet.Fleet) { ready <- f }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the all-in-one did not end well: %v", err)
		}
		if t.Failed() {
			t.Logf("its logs:\n%s", logs)
		}
	})
	a := &AllInOne{Logs: logs}
	select {
	case a.Fleet = <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("the all-in-one did not start: %v", err)
	case <-time.After(startTimeout):
		t.Fatal("the all-in-one was not ready in time")
	}
	clients, err := a.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := clients.Close(); err != nil {
			t.Error(err)
		}
	})
	a.Scanner = scannerv1.NewScannerServiceClient(clients.Scanner)
	a.Advisories = scannerv1.NewAdvisoryServiceClient(clients.Scanner)
	a.Signer = signerv1.NewAttestationServiceClient(clients.Signer)
	a.Verifier = verifierv1.NewVerdictServiceClient(clients.Verifier)
	a.Exceptions = verifierv1.NewExceptionServiceClient(clients.Verifier)
	a.NATS = clients.NATS
	return a
}

// Verdict waits for the verdict of a digest that was pushed or soon will be.
func (a *AllInOne) Verdict(t *testing.T, digest string) *verifierv1.Verdict {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request := &verifierv1.GetVerdictRequest{Image: &typev1.ImageRef{Digest: digest}, Wait: true}
	for {
		answer, err := a.Verifier.GetVerdict(ctx, request)
		if err != nil {
			t.Fatal(err)
		}
		v := answer.GetVerdict()
		// The verifier may not know the push yet.
		if !v.GetPending() && (len(v.GetReasons()) == 0 || v.GetReasons()[0].GetCode() != "NEVER_SEEN") {
			return v
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no verdict of %s in time", digest)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
