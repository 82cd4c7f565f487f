// Package demo shows the whole product in one command: it starts the all-in-one,
// pushes two images and prints each step of their way to a signed verdict as it
// happens. Nothing in the pipeline knows that it is a demo.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/fleet"
	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
)

// Options configures the demo.
type Options struct {
	// Fleet is the all-in-one's configuration; the demo adds a subscriber.
	Fleet fleet.Config
	// Binaries is the directory of the programs inside the images.
	Binaries string
	// Stay keeps the fleet running until the context ends.
	Stay bool
	// Out receives the steps, Logs the services' logs.
	Out, Logs io.Writer
}

// ErrUnexpectedVerdict reports that an image got another verdict than it must.
var ErrUnexpectedVerdict = errors.New("a verdict is not as expected")

const (
	// startTimeout bounds the start of the fleet, imageTimeout the way of one
	// image. Both take about a second on two cores.
	startTimeout = 60 * time.Second
	imageTimeout = 60 * time.Second
	// vsaPoll is how often the signing log is asked for the verdict's
	// attestation, the last step and the only one without an event.
	vsaPoll = 50 * time.Millisecond
)

// Run runs the demo. It returns nil if every image got the verdict that it must.
func Run(ctx context.Context, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	subscriber, err := startReceiver(ctx)
	if err != nil {
		return err
	}
	defer subscriber.Close()
	o.Fleet.Subscribe("demo", subscriber.URL(), subscriber.Secret())

	ready := make(chan *fleet.Fleet, 1)
	ended := make(chan error, 1)
	go func() { ended <- fleet.Run(ctx, o.Fleet, o.Logs, func(f *fleet.Fleet) { ready <- f }) }()
	out := &console{out: o.Out, start: time.Now()}
	var running *fleet.Fleet
	select {
	case running = <-ready:
	case err := <-ended:
		return fmt.Errorf("start the fleet: %w", err)
	case <-time.After(startTimeout):
		cancel()
		return errors.Join(errors.New("the fleet was not ready in time"), <-ended)
	}
	err = show(ctx, out, o, running, subscriber)
	if err == nil && o.Stay {
		out.line("\nThe fleet stays up; Ctrl-C ends it.")
		<-ctx.Done()
	}
	cancel()
	return errors.Join(err, <-ended)
}

func show(ctx context.Context, out *console, o Options, running *fleet.Fleet, subscriber *receiver) error {
	clients, err := running.Connect()
	if err != nil {
		return err
	}
	defer clients.Close()
	facts := make(chan fact, 64)
	if err := observe(clients.NATS, facts); err != nil {
		return err
	}
	t := &tour{
		out: out, facts: facts, subscriber: subscriber, registry: running.Registry(),
		scanner:  scannerv1.NewScannerServiceClient(clients.Scanner),
		signer:   signerv1.NewAttestationServiceClient(clients.Signer),
		verifier: verifierv1.NewVerdictServiceClient(clients.Verifier),
	}
	out.heading("Seaworthy is up: registry %s, webhooks %s, data in %s", running.Registry(), running.GatewayURL(), running.DataDir())
	wrong := 0
	for _, i := range images {
		out.heading("%s must %s: %s", i.reference(running.Registry()), i.want, i.why)
		got, err := t.image(ctx, i, o.Binaries)
		if err != nil {
			return fmt.Errorf("%s: %w", i.reference(running.Registry()), err)
		}
		if got != i.want {
			wrong++
		}
	}
	t.hints(running, o.Stay)
	if wrong > 0 {
		return fmt.Errorf("%w: %d of %d", ErrUnexpectedVerdict, wrong, len(images))
	}
	return nil
}

// tour follows images, one after the other.
type tour struct {
	out        *console
	facts      <-chan fact
	subscriber *receiver
	registry   string
	scanner    scannerv1.ScannerServiceClient
	signer     signerv1.AttestationServiceClient
	verifier   verifierv1.VerdictServiceClient
}

// image pushes one image and prints its way until the verdict is signed and the
// subscriber was told. It returns the verdict.
func (t *tour) image(ctx context.Context, i image, binaries string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, imageTimeout)
	defer cancel()
	digest, err := i.push(ctx, t.registry, binaries)
	if err != nil {
		return "", err
	}
	t.out.step("push", "%s", digest)
	verdict, told := "", false
	for verdict == "" || !told {
		select {
		case f := <-t.facts:
			if f.GetImage().GetDigest() != digest {
				continue
			}
			state, err := t.fact(ctx, f)
			if err != nil {
				return "", err
			}
			if state != "" {
				verdict = state
			}
		case n := <-t.subscriber.received:
			if n.Data.Digest != digest {
				continue
			}
			if !n.Verified {
				return "", errors.New("the notification's signature does not verify")
			}
			t.out.step("notify", "subscriber was told %s, signature verified (webhook-id %s)", n.Data.State, n.ID)
			told = true
		case <-ctx.Done():
			return "", fmt.Errorf("no verdict and notification in time: %w", ctx.Err())
		}
	}
	return verdict, t.summary(ctx, digest)
}

// fact prints one event and returns the verdict if that is what it tells.
func (t *tour) fact(ctx context.Context, f fact) (string, error) {
	switch e := f.(type) {
	case *eventv1.ImagePushedEvent:
		t.out.step("webhook", "accepted from %q, stored as event %s", e.GetWebhookSource(), short(e.GetMeta().GetEventId()))
	case *eventv1.ImageScannedEvent:
		return "", t.scanned(ctx, e)
	case *eventv1.ImageAttestedEvent:
		for _, p := range e.GetPlatforms() {
			for n, a := range p.GetAttestations() {
				text := short(a.GetManifestDigest()) + "  " + predicateName(a.GetPredicateType())
				if n == 0 {
					t.out.step("sign", "%s", text)
				} else {
					t.out.detail("%s", text)
				}
			}
		}
	case *eventv1.VerdictReachedEvent:
		return t.verdict(ctx, e)
	case *eventv1.DeadLetterEvent:
		return "", fmt.Errorf("%s gave up: %s: %s", e.GetService(), e.GetReason(), e.GetMessage())
	}
	return "", nil
}

func (t *tour) scanned(ctx context.Context, e *eventv1.ImageScannedEvent) error {
	answer, err := t.scanner.GetScan(ctx, &scannerv1.GetScanRequest{ScanId: e.GetScanId(), View: scannerv1.ScanView_SCAN_VIEW_FULL})
	if err != nil {
		return err
	}
	for _, r := range answer.GetScan().GetReports() {
		counts := map[typev1.Severity]int{}
		for _, f := range r.GetFindings() {
			counts[f.GetSeverity()]++
		}
		t.out.step("scan", "%s %s: %d packages, %d findings (%d critical, %d high)",
			r.GetFacts().GetDistroId(), r.GetFacts().GetDistroVersion(), r.GetPackageCount(), r.GetFindingCount(),
			counts[typev1.Severity_SEVERITY_CRITICAL], counts[typev1.Severity_SEVERITY_HIGH])
	}
	return nil
}

func (t *tour) verdict(ctx context.Context, e *eventv1.VerdictReachedEvent) (string, error) {
	answer, err := t.verifier.GetVerdict(ctx, &verifierv1.GetVerdictRequest{Image: e.GetImage()})
	if err != nil {
		return "", err
	}
	state := strings.TrimPrefix(answer.GetVerdict().GetState().String(), "STATE_")
	t.out.step("verdict", "%s", state)
	for _, r := range answer.GetVerdict().GetReasons() {
		t.out.detail("%s %s: %s", r.GetCode(), r.GetRule(), r.GetMessage())
	}
	return state, nil
}

// summary waits for the verdict's own attestation and prints where all of it is.
func (t *tour) summary(ctx context.Context, digest string) error {
	image := &typev1.ImageRef{Digest: digest}
	for {
		answer, err := t.signer.ListAttestations(ctx, &signerv1.ListAttestationsRequest{Image: image})
		if err != nil {
			return err
		}
		for _, a := range answer.GetAttestations() {
			if a.GetPredicateType() == attest.PredicateVSA {
				t.out.step("sign", "%s  %s", short(a.GetManifestDigest()), predicateName(a.GetPredicateType()))
				t.out.step("trace", "%s", a.GetTraceId())
				return nil
			}
		}
		select {
		case <-time.After(vsaPoll):
		case <-ctx.Done():
			return fmt.Errorf("the verdict was not signed in time: %w", ctx.Err())
		}
	}
}

func (t *tour) hints(running *fleet.Fleet, stay bool) {
	ref := images[0].reference(t.registry)
	t.out.heading("Look further:")
	if !stay {
		t.out.line("  make run DATA_DIR=%s        # the same data, in another terminal", running.DataDir())
	}
	t.out.line("  export SEAWORTHY_CONTEXT=%s", running.ContextFile())
	for _, command := range []string{"verdict", "findings", "attestations", "sbom"} {
		t.out.line("  bin/seaworthyctl %s %s", command, ref)
	}
}
