// Package evidence makes claims into attestations: signed once, the bundle put into the
// repository where nothing refers to it, the manifest that does written down before
// the registry gets it, attached, and read back before they count as done. However often it is asked, and wherever it was interrupted,
// a subject ends with one attestation in force for each predicate type; what that
// superseded is deleted after a while.
package evidence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/identity"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// Errors of this package, for errors.Is.
var (
	// ErrNotReadBack: the registry accepted an attestation but does not give it back.
	ErrNotReadBack = errors.New("the registry does not give back what was written")
	// ErrNoSubject: the manifest to attest is not in the registry.
	ErrNoSubject = errors.New("the image is no longer in the registry")
	// ErrRevised: a claim was made of the one in force, and meanwhile another came
	// into force. Trying again helps.
	ErrRevised = errors.New("another attestation came into force meanwhile")
	// ErrFuture: what is claimed is dated later than attest.ClockSkew from now. No reader
	// would believe it, and it would outrank what is true. Trying again helps when the
	// clocks agree again.
	ErrFuture = errors.New("the claim is dated in the future")
)

// Attached is an attestation that is in the registry.
type Attached struct {
	PredicateType string
	// ManifestDigest is the digest of the referrer's manifest.
	ManifestDigest string
}

// Writer attaches claims. It is safe for concurrent use.
type Writer struct {
	store    store.Store
	registry *registry.Client
	signers  []identity.Identity
	maxAge   time.Duration
	log      *slog.Logger
	now      func() time.Time
	written  metric.Int64Counter
	future   metric.Int64Counter
	legacy   bool
	circuits *circuits
}

// New returns a writer that signs as each of the identities. A claim that says what
// is in force gets a new attestation when that is maxAge older; 0 means never.
func New(s store.Store, r *registry.Client, signers []identity.Identity, maxAge time.Duration, t *obs.Telemetry, now func() time.Time) (*Writer, error) {
	written, err := t.Meter().Int64Counter("signer.attestations",
		metric.WithDescription("Attestations asked for, by predicate type and what had to be done."))
	if err != nil {
		return nil, fmt.Errorf("make counter: %w", err)
	}
	future, err := t.Meter().Int64Counter("signer.claims.future",
		metric.WithDescription("Claims refused because they are dated in the future, by predicate type: the clock of the scanner, of the verifier or of the signer is wrong."))
	if err != nil {
		return nil, fmt.Errorf("make counter: %w", err)
	}
	return &Writer{
		store: s, registry: r, signers: signers, maxAge: maxAge,
		log: t.Logger, now: now, written: written, future: future,
	}, nil
}

// What had to be done for a claim; the values of the counter's attribute.
const (
	outcomeSigned   = "signed"   // new
	outcomeResumed  = "resumed"  // signed before, not known to be in the registry
	outcomeAdopted  = "adopted"  // found in the registry, unknown to the log
	outcomePresent  = "present"  // nothing
	outcomeRestored = "restored" // attached again after somebody deleted it
	outcomeStale    = "stale"    // nothing: later news is in force
)

// Attach makes sure that the manifest that ref names by digest carries an
// attestation for each claim and by each identity, or of a later claim of its
// type, and returns them in the order of the claims. Claims that turn out to be
// nothing when they are revised are left out.
// Errors are those of the registry, of the store, of attest, of the identities,
// ErrNotReadBack, ErrRevised, ErrFuture and, after EnableCircuitBreaker, guard.ErrOpen.
func (w *Writer) Attach(ctx context.Context, ref imageref.Ref, claims []core.Predicate) (out []Attached, err error) {
	if err := w.checkTimes(ctx, claims); err != nil {
		return nil, err
	}
	err = w.circuits.do(ctx, ref.Registry, func(ctx context.Context) (err error) {
		out, err = w.attachAll(ctx, ref, claims)
		return err
	})
	return out, err
}

// checkTimes refuses claims of the future, before anything is signed or written down.
func (w *Writer) checkTimes(ctx context.Context, claims []core.Predicate) error {
	now := w.now()
	for _, p := range claims {
		late := p.Time.After(now.Add(attest.ClockSkew))
		if !late && p.JSON != nil {
			late = errors.Is(attest.CheckTime(attest.Statement{PredicateType: p.Type, Predicate: p.JSON}, now), attest.ErrFuture)
		}
		if !late {
			continue
		}
		w.future.Add(ctx, 1, metric.WithAttributes(attribute.String("predicate_type", p.Type)))
		return fmt.Errorf("%w: %s is of %s, it is %s here: set the clocks of the scanner, the verifier and the signer right; it is tried again",
			ErrFuture, p.Type, p.Time.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

func (w *Writer) attachAll(ctx context.Context, ref imageref.Ref, claims []core.Predicate) ([]Attached, error) {
	im, err := w.look(ctx, ref)
	if err != nil {
		return nil, err
	}
	var work []*claim
	for _, p := range claims {
		for _, by := range w.signers {
			c, err := w.prepare(ctx, im, by, p)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.Type, err)
			}
			if c != nil {
				work = append(work, c)
			}
		}
	}
	if err := w.signAll(ctx, im, work); err != nil {
		return nil, err
	}
	if err := w.attach(ctx, im, work); err != nil {
		return nil, err
	}
	out := make([]Attached, len(work))
	for i, c := range work {
		out[i] = Attached{PredicateType: c.entry.PredicateType, ManifestDigest: c.entry.ManifestDigest}
		w.written.Add(ctx, 1, metric.WithAttributes(
			attribute.String("predicate_type", c.entry.PredicateType), attribute.String("outcome", c.outcome)))
	}
	return out, nil
}

// image is what is attested, as the registry has it when Attach begins.
type image struct {
	ref     imageref.Ref
	subject registry.Descriptor
	listed  map[string]registry.Descriptor
}

func (w *Writer) look(ctx context.Context, ref imageref.Ref) (*image, error) {
	im := &image{ref: imageref.Ref{Registry: ref.Registry, Repository: ref.Repository, Digest: ref.Digest}}
	var err error
	im.subject, err = w.registry.Resolve(ctx, im.ref)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", ErrNoSubject, err)
	}
	if err != nil {
		return nil, fmt.Errorf("find the subject: %w", err)
	}
	im.listed, err = w.listed(ctx, im.ref)
	return im, err
}
