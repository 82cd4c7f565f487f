package evidence

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/identity"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// claim is one claim of one identity on its way.
type claim struct {
	p       core.Predicate
	by      identity.Identity
	line    store.Line
	trusted attest.TrustRoots
	// revised is set if the claim was made of the entry with the ID before, of
	// none if that is empty.
	revised bool
	before  string

	// entry is what stands for it in the log; it is empty as long as it has to be signed.
	entry   store.Entry
	outcome string
	// attach is set if the attestation is not known to be in the registry.
	attach bool
	// bundle is what was signed and put into the repository just now; nil for what
	// was found in the log.
	bundle *attest.Bundle
	// attached is how the manifest is listed once it is in the registry.
	attached registry.Descriptor
	// unlisted is set while the manifest is in the registry and in no list of referrers.
	unlisted *registry.Descriptor
	// changed is set when the log refused a revised claim because it is made of
	// something else than what is in force.
	changed bool
}

// serves says whether what is in force speaks for the claim.
func (c *claim) serves(w *Writer, e store.Entry) bool {
	// Begin does not write what is served, and thus nothing made of the wrong one.
	if c.changed = c.revised && e.ID != c.before; c.changed {
		return true
	}
	return core.InForce{
		ContentKey: e.ContentKey, Time: e.ClaimTime, SignTime: e.SignTime, Revoked: revoked(c.trusted.Keys, e.KeyID),
	}.Serves(c.p, w.maxAge)
}

func revoked(keys []attest.TrustedKey, id string) bool {
	return slices.ContainsFunc(keys, func(k attest.TrustedKey) bool { return k.ID == id && !k.Revoked.IsZero() })
}

// prepare finds the log entry that speaks for a claim, or leaves the claim to be
// signed. It is nil if there is nothing to claim. Nothing is written to the
// registry here.
func (w *Writer) prepare(ctx context.Context, im *image, by identity.Identity, p core.Predicate) (*claim, error) {
	c := &claim{p: p, by: by, line: store.Line{
		Registry: im.ref.Registry, Repository: im.ref.Repository, SubjectDigest: im.ref.Digest, PredicateType: p.Type, Identity: by.Name(),
	}}
	var err error
	if c.trusted, err = by.Trusted(ctx); err != nil {
		return nil, err
	}
	if p.Revise != nil {
		ok, err := w.revise(ctx, im, c)
		if err != nil || !ok {
			return nil, err
		}
	}
	found, err := w.find(ctx, im, c, outcomePresent)
	if err != nil || found || c.revised {
		return c, err
	}
	adopted, err := w.adopt(ctx, im, c)
	if err != nil || !adopted {
		return c, err
	}
	_, err = w.find(ctx, im, c, outcomeAdopted)
	return c, err
}

// find says whether the log has what speaks for the claim, and looks after it.
func (w *Writer) find(ctx context.Context, im *image, c *claim, outcome string) (bool, error) {
	e, err := w.store.Current(ctx, c.line)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil || !c.serves(w, e) {
		return false, err
	}
	if c.changed {
		return false, ErrRevised
	}
	c.entry, c.outcome = e, outcome
	if !e.Done() {
		c.outcome, c.attach = outcomeResumed, true
		return true, nil
	}
	if outcome == outcomeAdopted {
		return true, nil
	}
	there, err := w.there(ctx, im.ref, e.ManifestDigest, im.listed)
	switch {
	case err != nil:
		return false, err
	case !there:
		w.log.WarnContext(ctx, "attestation missing in the registry; attaching it again",
			imageAttr(im.ref), typeAttr(c.p.Type), slog.String("manifest", e.ManifestDigest))
		c.outcome, c.attach = outcomeRestored, true
	case e.ContentKey != c.p.ContentKey:
		c.outcome = outcomeStale
	}
	return true, nil
}
