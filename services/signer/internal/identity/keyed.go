package identity

import (
	"context"
	"fmt"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
)

// Keys are the keys that signed and the one that does.
type Keys interface {
	// Current is the key to sign with.
	Current(ctx context.Context) (keystore.Identity, error)
	// Trusted are all keys that this identity ever had.
	Trusted(ctx context.Context) ([]attest.TrustedKey, error)
}

// Keyed signs with plain keys.
type Keyed struct {
	name    string
	keys    Keys
	witness Witness
}

// NewKeyed returns an identity that signs with keys. witness may be nil: then the
// signature alone is what there is.
func NewKeyed(name string, keys Keys, witness Witness) *Keyed {
	return &Keyed{name: name, keys: keys, witness: witness}
}

// Name implements Identity.
func (k *Keyed) Name() string { return k.name }

// Trusted implements Identity.
func (k *Keyed) Trusted(ctx context.Context) (attest.TrustRoots, error) {
	keys, err := k.keys.Trusted(ctx)
	if err != nil {
		return attest.TrustRoots{}, err
	}
	roots := attest.TrustRoots{Keys: keys}
	if k.witness != nil {
		roots.Sigstore = k.witness.Root()
	}
	return roots, nil
}

// Sign implements Identity.
func (k *Keyed) Sign(ctx context.Context, p attest.Payload) (Signed, error) {
	key, err := k.keys.Current(ctx)
	if err != nil {
		return Signed{}, fmt.Errorf("key to sign with: %w", err)
	}
	signed, err := attest.SignPayload(ctx, key.Signer(), key.Public(), p)
	if err != nil {
		return Signed{}, err
	}
	if k.witness == nil {
		return Signed{Bundle: signed, KeyID: key.KeyID()}, nil
	}
	// The key in use is believed without a look at the clock, which may be off; what
	// is checked here is what the witnesses said.
	own := attest.TrustedKey{Key: key.Public(), ID: key.KeyID()}
	own.RequireLog, own.RequireTimestamp = k.witness.Promises()
	roots := attest.TrustRoots{Keys: []attest.TrustedKey{own}, Sigstore: k.witness.Root()}
	return Witnessed(ctx, k.witness, signed, By{PublicPEM: []byte(key.PublicPEM())}, p.Subject(), roots)
}
