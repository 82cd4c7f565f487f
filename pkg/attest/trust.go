package attest

import (
	"crypto"
	"fmt"
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
	// NotBefore and NotAfter bound when the key is believed; zero is no bound.
	// Bundles that are signed with a plain key prove no time of signing, so the
	// window is compared with the time of verification: after NotAfter everything
	// the key ever signed is worth nothing. To rotate without losing evidence let
	// NotAfter be when the old evidence may expire; to revoke set it to now.
	NotBefore, NotAfter time.Time
}

// TrustRoots are the keys that are believed.
type TrustRoots struct {
	// Keys are tried in this order, those named by the bundle first.
	Keys []TrustedKey
	// At is the time the windows are compared with; zero means now. A verdict
	// that is replayed sets it to the time of the first evaluation.
	At time.Time
}

func (k TrustedKey) id() string {
	if k.ID != "" {
		return k.ID
	}
	return KeyID(k.Key)
}

func (k TrustedKey) validAt(t time.Time) bool {
	return (k.NotBefore.IsZero() || !t.Before(k.NotBefore)) && (k.NotAfter.IsZero() || !t.After(k.NotAfter))
}

func (k TrustedKey) hasHint(hint string) bool {
	if hint == "" {
		return false
	}
	own, err := keyHint(k.Key)
	return err == nil && own == hint || k.ID == hint || KeyID(k.Key) == hint
}

// material is k alone in the terms of sigstore-go.
func (k TrustedKey) material() (root.TrustedMaterial, error) {
	verifier, err := signature.LoadDefaultVerifier(k.Key)
	if err != nil {
		return nil, fmt.Errorf("trusted key %s: %w", k.id(), err)
	}
	expiring := root.NewExpiringKey(verifier, k.NotBefore, k.NotAfter)
	return root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) { return expiring, nil }), nil
}

// candidates are the keys valid at the time, those the hint names first, and how
// many those are.
func (r TrustRoots) candidates(hint string) (keys []TrustedKey, named int, err error) {
	if len(r.Keys) > MaxTrustedKeys {
		return nil, 0, fmt.Errorf("%w: %d trusted keys, the limit is %d", ErrTooLarge, len(r.Keys), MaxTrustedKeys)
	}
	at := r.At
	if at.IsZero() {
		at = time.Now()
	}
	var others []TrustedKey
	for _, k := range r.Keys {
		switch {
		case !k.validAt(at):
		case k.hasHint(hint):
			keys = append(keys, k)
		default:
			others = append(others, k)
		}
	}
	return append(keys, others...), len(keys), nil
}
