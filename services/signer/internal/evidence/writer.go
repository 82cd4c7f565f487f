// Package evidence makes claims into attestations: signed once, written down
// before anything is written to the registry, attached, and read back before
// they count as done. However often it is asked, and wherever it was interrupted,
// a subject ends with one attestation in force for each predicate type; what that
// superseded is deleted after a while.
package evidence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
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
	return &Writer{
		store: s, registry: r, signers: signers, maxAge: maxAge,
		log: t.Logger, now: now, written: written,
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

// claim is one claim on its way.
type claim struct {
	entry   store.Entry
	outcome string
	attach  bool
}

// Attach makes sure that the manifest that ref names by digest carries an
// attestation for each claim and by each identity, or of a later claim of its
// type, and returns them in the order of the claims. Claims that turn out to be
// nothing when they are revised are left out.
// Errors are those of the registry, of the store, of attest, of the identities,
// ErrNotReadBack, ErrRevised and, after LeaveAlone, guard.ErrOpen.
func (w *Writer) Attach(ctx context.Context, ref imageref.Ref, claims []core.Predicate) (out []Attached, err error) {
	err = w.circuits.do(ctx, ref.Registry, func(ctx context.Context) (err error) {
		out, err = w.attachAll(ctx, ref, claims)
		return err
	})
	return out, err
}

func (w *Writer) attachAll(ctx context.Context, ref imageref.Ref, claims []core.Predicate) ([]Attached, error) {
	ref = imageref.Ref{Registry: ref.Registry, Repository: ref.Repository, Digest: ref.Digest}
	subject, err := w.registry.Resolve(ctx, ref)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", ErrNoSubject, err)
	}
	if err != nil {
		return nil, fmt.Errorf("find the subject: %w", err)
	}
	listed, err := w.listed(ctx, ref)
	if err != nil {
		return nil, err
	}
	var work []claim
	for _, p := range claims {
		for _, by := range w.signers {
			c, ok, err := w.prepare(ctx, ref, by, p, listed)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.Type, err)
			}
			if ok {
				work = append(work, c)
			}
		}
	}
	if err := w.attach(ctx, ref, subject, work); err != nil {
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

// prepare finds or makes the log entry of a claim and decides whether it has to
// be attached. It says false if there is nothing to claim. Nothing is written to
// the registry here.
func (w *Writer) prepare(ctx context.Context, ref imageref.Ref, by identity.Identity, p core.Predicate, listed map[string]registry.Descriptor) (claim, bool, error) {
	line := store.Line{
		Registry: ref.Registry, Repository: ref.Repository, SubjectDigest: ref.Digest, PredicateType: p.Type, Identity: by.Name(),
	}
	trusted, err := by.Trusted(ctx)
	if err != nil {
		return claim{}, false, err
	}
	t := turn{ref: ref, by: by, line: line, listed: listed, trusted: trusted}
	if p.Revise != nil {
		revised, ok, err := w.revise(ctx, &t, p)
		if err != nil || !ok {
			return claim{}, false, err
		}
		p = revised
	}
	c, err := w.decide(ctx, t, p)
	return c, true, err
}

// turn is what is known when a claim's turn comes.
type turn struct {
	ref     imageref.Ref
	by      identity.Identity
	line    store.Line
	listed  map[string]registry.Descriptor
	trusted attest.TrustRoots
	// revised is set if the claim was made of the entry with the ID before, of
	// none if that is empty.
	revised bool
	before  string
}

func (w *Writer) decide(ctx context.Context, t turn, p core.Predicate) (claim, error) {
	changed := false
	serves := func(e store.Entry) bool {
		// Begin does not write what is served, and thus nothing made of the wrong one.
		if changed = t.revised && e.ID != t.before; changed {
			return true
		}
		return core.InForce{
			ContentKey: e.ContentKey, Time: e.ClaimTime, SignTime: e.SignTime, Revoked: revoked(t.trusted.Keys, e.KeyID),
		}.Serves(p, w.maxAge)
	}
	e, err := w.store.Current(ctx, t.line)
	switch {
	case err == nil && serves(e) && !changed:
		return w.present(ctx, t.ref, p, e, t.listed)
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return claim{}, err
	}
	adopted := false
	if !t.revised {
		if adopted, err = w.adopt(ctx, t, p); err != nil {
			return claim{}, err
		}
	}
	made, err := w.sign(ctx, t.by, store.Key{Line: t.line, ContentKey: p.ContentKey}, p)
	if err != nil {
		return claim{}, err
	}
	if e, err = w.store.Begin(ctx, made, serves); err != nil {
		return claim{}, err
	}
	switch {
	case e.ID == made.ID:
		return claim{entry: e, outcome: outcomeSigned, attach: !e.Done()}, nil
	case changed:
		return claim{}, ErrRevised
	case adopted && e.Done():
		return claim{entry: e, outcome: outcomeAdopted}, nil
	default: // another process was faster
		return claim{entry: e, outcome: outcomeResumed, attach: !e.Done()}, nil
	}
}

func revoked(keys []attest.TrustedKey, id string) bool {
	return slices.ContainsFunc(keys, func(k attest.TrustedKey) bool { return k.ID == id && !k.Revoked.IsZero() })
}

// present looks after an entry that speaks for the claim.
func (w *Writer) present(ctx context.Context, ref imageref.Ref, p core.Predicate, e store.Entry, listed map[string]registry.Descriptor) (claim, error) {
	if !e.Done() {
		return claim{entry: e, outcome: outcomeResumed, attach: true}, nil
	}
	there, err := w.there(ctx, ref, e.ManifestDigest, listed)
	if err != nil {
		return claim{}, err
	}
	switch {
	case !there:
		w.log.WarnContext(ctx, "attestation is gone from the registry: attaching it again",
			slog.String("image", ref.String()), slog.String("predicate_type", p.Type), slog.String("manifest", e.ManifestDigest))
		return claim{entry: e, outcome: outcomeRestored, attach: true}, nil
	case e.ContentKey != p.ContentKey:
		return claim{entry: e, outcome: outcomeStale}, nil
	default:
		return claim{entry: e, outcome: outcomePresent}, nil
	}
}

func (w *Writer) sign(ctx context.Context, by identity.Identity, k store.Key, p core.Predicate) (store.Entry, error) {
	st := attest.Statement{
		Subject:       []attest.Subject{{Name: k.Registry + "/" + k.Repository, SHA256: strings.TrimPrefix(k.SubjectDigest, "sha256:")}},
		PredicateType: p.Type,
		Predicate:     p.JSON,
	}
	payload, err := attest.NewPayload(st)
	if err != nil {
		return store.Entry{}, fmt.Errorf("build statement: %w", err)
	}
	content, err := payload.Digest()
	if err != nil {
		return store.Entry{}, err
	}
	signed, err := by.Sign(ctx, payload)
	if err != nil {
		return store.Entry{}, fmt.Errorf("sign statement: %w", err)
	}
	bundle, err := signed.Bundle.Bytes()
	if err != nil {
		return store.Entry{}, err
	}
	return store.Entry{
		ID: store.ID(k, p.Time, signed.KeyID), Key: k, ClaimTime: p.Time, ContentDigest: content,
		KeyID: signed.KeyID, Bundle: bundle, LogIndex: signed.LogIndex, ProvenTime: signed.ProvenTime,
		// The manifest's annotation has whole seconds; the same bundle and time
		// give the same manifest at every attempt.
		SignTime: w.now().UTC().Truncate(time.Second), TraceID: obs.TraceID(ctx),
	}, nil
}
