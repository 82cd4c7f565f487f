// Package fleet connects the client to the services of a fleet, as its context
// file says, each when it is first needed.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/fleetcontext"
	notifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/notifier/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// maxMessage bounds a message from a service: scans with all their packages.
const maxMessage config.Bytes = 64 << 20

// Errors that say what is missing, not what failed.
var (
	// ErrNoAddress: the context does not say where the service is.
	ErrNoAddress = errors.New("the context has no address for it")
	// ErrNotOperator: the certificate of the context is not an operator's.
	ErrNotOperator = errors.New("only an operator may do this")
)

// Fleet is a fleet as the client sees it. It is for one goroutine.
type Fleet struct {
	// File is the context file it comes from.
	File string
	// Context is its content.
	Context *fleetcontext.Context

	tls       *tlsx.Source
	telemetry *obs.Telemetry
	conns     map[string]*grpc.ClientConn
	bus       *eventbus.Bus
	registry  *registry.Client
}

// Open reads the context file and the certificate it names. Close it.
func Open(file string) (*Fleet, error) {
	c, err := fleetcontext.Load(file)
	if err != nil {
		return nil, err
	}
	source, err := tlsx.NewSource(c.TLS)
	if err != nil {
		return nil, fmt.Errorf("certificate of the context file %s: %w", file, err)
	}
	return &Fleet{File: file, Context: c, tls: source, telemetry: obs.Discard("seaworthyctl"), conns: map[string]*grpc.ClientConn{}}, nil
}

// ID is the SPIFFE ID that the client shows.
func (f *Fleet) ID() string { return f.tls.ID() }

// Close closes every connection that was made, also when ctx has ended.
func (f *Fleet) Close(ctx context.Context) {
	for _, c := range f.conns {
		_ = c.Close() // nothing is on its way any more
	}
	if f.bus != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = f.bus.Close(ctx) // every publication was acknowledged
	}
	if f.registry != nil {
		f.registry.Close()
	}
}

func (f *Fleet) dial(service, address string) (*grpc.ClientConn, error) {
	if c, ok := f.conns[service]; ok {
		return c, nil
	}
	if address == "" {
		return nil, fmt.Errorf("%s: %w", service, ErrNoAddress)
	}
	c, err := grpcx.Dial(address, tlsx.ServiceID(f.Context.TrustDomain, service),
		grpcx.ClientDeps{TLS: f.tls, Telemetry: f.telemetry, MaxMessage: maxMessage})
	if err != nil {
		return nil, err
	}
	f.conns[service] = c
	return c, nil
}

// Scanner connects to the scanner.
func (f *Fleet) Scanner() (scannerv1.ScannerServiceClient, error) {
	c, err := f.dial("scanner", f.Context.Addresses.Scanner)
	if err != nil {
		return nil, err
	}
	return scannerv1.NewScannerServiceClient(c), nil
}

// Advisories connects to the advisories of the scanner.
func (f *Fleet) Advisories() (scannerv1.AdvisoryServiceClient, error) {
	c, err := f.dial("scanner", f.Context.Addresses.Scanner)
	if err != nil {
		return nil, err
	}
	return scannerv1.NewAdvisoryServiceClient(c), nil
}

// Attestations connects to the signer.
func (f *Fleet) Attestations() (signerv1.AttestationServiceClient, error) {
	c, err := f.dial("signer", f.Context.Addresses.Signer)
	if err != nil {
		return nil, err
	}
	return signerv1.NewAttestationServiceClient(c), nil
}

// KeyAdmin connects to the signer for its keys.
func (f *Fleet) KeyAdmin() (signerv1.KeyAdminServiceClient, error) {
	c, err := f.dial("signer", f.Context.Addresses.Signer)
	if err != nil {
		return nil, err
	}
	return signerv1.NewKeyAdminServiceClient(c), nil
}

// Verdicts connects to the verifier.
func (f *Fleet) Verdicts() (verifierv1.VerdictServiceClient, error) {
	c, err := f.dial("verifier", f.Context.Addresses.Verifier)
	if err != nil {
		return nil, err
	}
	return verifierv1.NewVerdictServiceClient(c), nil
}

// Exceptions connects to the exceptions of the verifier.
func (f *Fleet) Exceptions() (verifierv1.ExceptionServiceClient, error) {
	c, err := f.dial("verifier", f.Context.Addresses.Verifier)
	if err != nil {
		return nil, err
	}
	return verifierv1.NewExceptionServiceClient(c), nil
}

// Policies connects to the policies of the verifier.
func (f *Fleet) Policies() (verifierv1.PolicyServiceClient, error) {
	c, err := f.dial("verifier", f.Context.Addresses.Verifier)
	if err != nil {
		return nil, err
	}
	return verifierv1.NewPolicyServiceClient(c), nil
}

// Vex connects to the VEX documents of the verifier.
func (f *Fleet) Vex() (verifierv1.VexServiceClient, error) {
	c, err := f.dial("verifier", f.Context.Addresses.Verifier)
	if err != nil {
		return nil, err
	}
	return verifierv1.NewVexServiceClient(c), nil
}

// DeadLetters connects to the dead letters that the verifier stores.
func (f *Fleet) DeadLetters() (verifierv1.DeadLetterServiceClient, error) {
	c, err := f.dial("verifier", f.Context.Addresses.Verifier)
	if err != nil {
		return nil, err
	}
	return verifierv1.NewDeadLetterServiceClient(c), nil
}

// Deliveries connects to the notifier.
func (f *Fleet) Deliveries() (notifierv1.DeliveryServiceClient, error) {
	c, err := f.dial("notifier", f.Context.Addresses.Notifier)
	if err != nil {
		return nil, err
	}
	return notifierv1.NewDeliveryServiceClient(c), nil
}

// Bus connects to the event bus, which only operators may.
func (f *Fleet) Bus(ctx context.Context) (*eventbus.Bus, error) {
	if f.bus != nil {
		return f.bus, nil
	}
	if f.Context.NATS == "" {
		return nil, fmt.Errorf("nats: %w", ErrNoAddress)
	}
	id, err := tlsx.ParseID(f.tls.ID())
	if err != nil {
		return nil, err
	}
	if id.Kind != tlsx.KindOperator {
		return nil, fmt.Errorf("%w: the certificate of the context is that of %s", ErrNotOperator, id)
	}
	f.bus, err = events.Connect(ctx, eventbus.Config{URL: f.Context.NATS}, eventbus.Operator, f.tls, f.telemetry)
	return f.bus, err
}

// Registry returns a client for the registry of ref: plain http only if the
// context says so, anonymous.
func (f *Fleet) Registry(ref imageref.Ref) (*registry.Client, error) {
	if f.registry != nil && f.registry.Allowed(ref.Registry) {
		return f.registry, nil
	}
	host := registry.Host{Host: ref.Registry}
	if own := f.Context.Registry; own.Host == ref.Registry {
		host.Insecure = own.Insecure
	}
	c, err := registry.New(registry.Config{Registries: []registry.Host{host}}, f.telemetry)
	if err != nil {
		return nil, err
	}
	f.registry = c
	return c, nil
}

// Image reads an image reference. One without a registry is of the context's
// registry if it has one, and of Docker Hub otherwise.
func (f *Fleet) Image(s string) (imageref.Ref, error) {
	ref, err := imageref.Parse(s)
	own := f.Context.Registry.Host
	if own == "" || namesRegistry(s) {
		return ref, err
	}
	return imageref.Parse(own + "/" + s)
}

// NotAfter is when the client's certificate ends.
func (f *Fleet) NotAfter() time.Time { return f.tls.NotAfter() }
