package attest

import (
	"fmt"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
)

// verifyKeyed verifies a bundle that was signed with a plain key.
func (o opened) verifyKeyed(roots TrustRoots) (*Verified, error) {
	entity := o.entity
	hint := entity.GetVerificationMaterial().GetPublicKey().GetHint()
	keys, named, err := roots.candidates(hint)
	if err != nil {
		return nil, err
	}
	w, err := findWitnesses(entity, roots.Sigstore)
	if err != nil {
		return nil, err
	}
	var failures []error
	var refused error
	for _, k := range keys {
		material, err := k.material(o.message)
		if err == nil {
			material = roots.Sigstore.with(material)
			err = verifyWith(entity, material, o.artifact)
		}
		if err != nil {
			failures = append(failures, err)
			continue
		}
		signed, err := k.witnessed(entity, material, w, roots.Sigstore)
		if err != nil {
			return nil, err
		}
		if !mayState(k.States, o.st.PredicateType) {
			// The same key may stand among the roots a second time.
			refused = fmt.Errorf("%w: key %.100q, predicate type %.200q", ErrNotAllowed, k.id(), o.st.PredicateType)
			continue
		}
		stated := o.times.stated
		if stated.IsZero() {
			stated = signed
		}
		ended := k.NotAfter.UTC().Format(time.RFC3339)
		switch {
		case !k.covers(o.st.PredicateType, stated) && stated.IsZero():
			return nil, fmt.Errorf("%w: key %.100q stopped signing at %s, the statement has no time", ErrUntrustedKey, k.id(), ended)
		case !k.covers(o.st.PredicateType, stated):
			return nil, fmt.Errorf("%w: key %.100q stopped signing at %s, the statement is of %s",
				ErrUntrustedKey, k.id(), ended, stated.Format(time.RFC3339))
		case !signed.IsZero() && !k.covers(o.st.PredicateType, signed):
			return nil, fmt.Errorf("%w: key %.100q stopped signing at %s, the signature is of %s",
				ErrUntrustedKey, k.id(), ended, signed.Format(time.RFC3339))
		}
		return &Verified{KeyID: k.id(), SignTime: signed, LogIndex: w.index()}, nil
	}
	if refused != nil {
		return nil, refused
	}
	if named > 0 {
		return nil, fmt.Errorf("%w: %w", ErrBadSignature, failures[0])
	}
	return nil, fmt.Errorf("%w: key hint %.100q, %d trusted keys", ErrUntrustedKey, hint, len(keys))
}

// verifyWith verifies the signature alone.
func verifyWith(entity *bundle.Bundle, material root.TrustedMaterial, artifact verify.ArtifactPolicyOption) error {
	// The key's window is checked outside: a key proves no time of signing.
	verifier, err := verify.NewVerifier(material, verify.WithNoObserverTimestamps(), verify.WithoutStatementPredicate())
	if err != nil {
		return err
	}
	_, err = verifier.Verify(entity, verify.NewPolicy(artifact, verify.WithKey()))
	return err
}

// witnessed checks the log entries and the timestamps of a bundle whose signature
// is right, and gives the proven time of signing; zero if nothing proves one.
func (k TrustedKey) witnessed(entity *bundle.Bundle, material root.TrustedMaterial, w witnesses, r *SigstoreRoot) (time.Time, error) {
	if _, err := w.options(k.RequireLog); err != nil {
		return time.Time{}, err
	}
	if len(w.known) > 0 {
		if _, err := verify.VerifyTlogEntry(entity, material, len(w.known), true); err != nil {
			return time.Time{}, fmt.Errorf("%w: the entry in the bundle is wrong: %w", ErrNoLogEntry, err)
		}
	}
	if k.RequireTimestamp {
		if _, err := verify.VerifySignedTimestampWithThreshold(entity, material, 1); err != nil {
			return time.Time{}, fmt.Errorf("%w: %w", ErrNoTimestamp, err)
		}
	}
	if r == nil {
		return time.Time{}, nil
	}
	return earliest(w.times(entity, material)), nil
}
