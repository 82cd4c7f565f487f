package attest

import (
	"crypto"
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore/pkg/signature"
)

// MaxTrustedKeys is the largest number of keys of one TrustRoots.
const MaxTrustedKeys = 256

// TrustedKey is a public key whose signatures are believed during its window.
type TrustedKey struct {
	// Key is an ECDSA (P-256, P-384, P-521), Ed25519 or RSA public key.
	Key crypto.PublicKey
	// ID names the key in results; empty means KeyID(Key).
	ID string
	// NotBefore is compared with the time of verification: before it the key is
	// not believed at all. Zero is no bound.
	NotBefore time.Time
	// NotAfter is when the key stopped signing; zero is no bound. It is compared
	// with the time that the statement itself states (StatedTime): what says that
	// it was true later cannot have been signed before, and is not believed. What
	// it signed in its time stays good. A plain key proves no time of signing, so
	// this keeps honest signers honest and stops no thief, who can date back:
	// that is what Revoked is for. Statements of types that state no time are not
	// bound; one that leaves out the time its type has is not believed.
	NotAfter time.Time
	// Revoked, if set, ends all belief in the key: nothing that it ever signed
	// verifies. It is compared with no clock: a verifier whose clock is behind must
	// not go on believing a key that is known to be revoked.
	Revoked time.Time
	// States are the predicate types that the key may state; nil is any.
	States []string
	// RequireLog demands an entry in a transparency log of the SigstoreRoot.
	RequireLog bool
	// RequireTimestamp demands a timestamp by an authority of the SigstoreRoot.
	// The proven time is compared with NotAfter too, so that a thief cannot date
	// back.
	RequireTimestamp bool
}

// TrustRoots are the keys and identities that are believed.
type TrustRoots struct {
	// Keys are tried in this order, those named by the bundle first.
	Keys []TrustedKey
	// Identities are whose certificates are believed, if an authority of Sigstore
	// issued them. What covers nobody, see TrustedIdentity.Validate, is ignored.
	Identities []TrustedIdentity
	// Sigstore names the authorities behind certificates, logs and timestamps; nil
	// means none.
	Sigstore *SigstoreRoot
	// At is the time of verification; zero means now. A verdict
	// that is replayed sets it to the time of the first evaluation.
	At time.Time
}

func (k TrustedKey) id() string {
	if k.ID != "" {
		return k.ID
	}
	return KeyID(k.Key)
}

// believedAt says whether the key may verify anything at the time.
func (k TrustedKey) believedAt(t time.Time) bool {
	return (k.NotBefore.IsZero() || !t.Before(k.NotBefore)) && k.Revoked.IsZero()
}

// covers says whether the key may have signed what was true at the stated time. Of a
// type that states a time, a statement without one may have been signed at any time.
func (k TrustedKey) covers(predicateType string, stated time.Time) bool {
	if k.NotAfter.IsZero() {
		return true
	}
	if stated.IsZero() {
		return !statesTime(predicateType)
	}
	return !stated.After(k.NotAfter)
}

// Believes says whether a statement of this predicate type by the key or the identity
// with this ID (Verified.KeyID), with the StatedTime it has, is believed. It is for
// results of Verify that were kept. An identity is believed as long as it is among the
// trusted ones: give it another ID, or none, if what it covers changes.
func (r TrustRoots) Believes(id, predicateType string, stated time.Time) bool {
	at := r.at()
	if stated.After(at.Add(ClockSkew)) {
		return false
	}
	for _, k := range r.Keys {
		if k.id() == id && k.believedAt(at) && k.covers(predicateType, stated) && mayState(k.States, predicateType) {
			return true
		}
	}
	return slices.ContainsFunc(r.Identities, func(i TrustedIdentity) bool {
		return i.id() == id && i.Validate() == nil && mayState(i.States, predicateType)
	})
}

// mayState says whether a predicate type is among those that may be stated.
func mayState(states []string, predicateType string) bool {
	return states == nil || slices.Contains(states, predicateType)
}

func (r TrustRoots) at() time.Time {
	if r.At.IsZero() {
		return time.Now()
	}
	return r.At
}

func (k TrustedKey) hasHint(hint string) bool {
	if hint == "" {
		return false
	}
	own, err := keyHint(k.Key)
	return err == nil && own == hint || k.ID == hint || KeyID(k.Key) == hint
}

// material is k alone in the terms of sigstore-go, without its window, which
// sigstore-go would compare with other times. message is what was signed if
// sigstore-go is shown nothing but its digest.
func (k TrustedKey) material(message *Payload) (root.TrustedMaterial, error) {
	verifier, err := signature.LoadDefaultVerifier(k.Key)
	if err != nil {
		return nil, fmt.Errorf("trusted key %s: %w", k.id(), err)
	}
	if pub, ok := k.Key.(ed25519.PublicKey); ok && message != nil {
		verifier = mappedVerifier{Verifier: verifier, key: pub, message: message}
	}
	expiring := root.NewExpiringKey(verifier, time.Time{}, time.Time{})
	return root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) { return expiring, nil }), nil
}

// candidates are the keys believed at the time, those the hint names first, and how
// many those are.
func (r TrustRoots) candidates(hint string) (keys []TrustedKey, named int, err error) {
	if len(r.Keys) > MaxTrustedKeys {
		return nil, 0, fmt.Errorf("%w: %d trusted keys, the limit is %d", ErrTooLarge, len(r.Keys), MaxTrustedKeys)
	}
	at := r.at()
	var others []TrustedKey
	for _, k := range r.Keys {
		switch {
		case !k.believedAt(at):
		case k.hasHint(hint):
			keys = append(keys, k)
		default:
			others = append(others, k)
		}
	}
	return append(keys, others...), len(keys), nil
}
