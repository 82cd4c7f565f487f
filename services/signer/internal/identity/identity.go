// Package identity says as what the signer signs: with keys of its own, with a
// key that a KMS holds, or keyless, with a certificate for each signature.
package identity

import (
	"context"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
)

// Identity makes signed bundles of statements. Implementations are safe for
// concurrent use.
type Identity interface {
	// Name is that of the configuration; it is empty for the keys of the key store.
	// What one identity signed is superseded by what the same one signs later.
	Name() string
	// Sign signs a statement, which has to be there for as long as the bundle is used.
	// A reader who believes Trusted believes the bundle; nothing of it is kept anywhere
	// if Sign fails, but what a transparency log may have taken in.
	Sign(ctx context.Context, p attest.Payload) (Signed, error)
	// Trusted is what is believed of all that the identity ever signed, without a
	// time of verification.
	Trusted(ctx context.Context) (attest.TrustRoots, error)
}

// Signed is a bundle that is not yet anywhere.
type Signed struct {
	Bundle *attest.Bundle
	// KeyID names who signed, as attest.Verified does.
	KeyID string
	// LogIndex is the place in a transparency log; nil if it is in none.
	LogIndex *int64
	// ProvenTime is when it was signed, as others say; zero if nobody does.
	ProvenTime time.Time
}
