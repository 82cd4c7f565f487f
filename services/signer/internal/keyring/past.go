package keyring

import (
	"context"
	"errors"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// ErrNoKeyStore says that the signer has no key store.
var ErrNoKeyStore = errors.New("the signer has no key store")

// Past are the keys of a signer that has no key store: those of a KMS, and those
// that it once had, which still verify what they signed.
type Past struct {
	// Store is a Durable one.
	Store Database
	Now   func() time.Time
}

// List returns all keys.
func (p Past) List(ctx context.Context) ([]store.SigningKey, error) { return p.Store.Keys(ctx) }

// Rotate is ErrNoKeyStore.
func (p Past) Rotate(context.Context, string) (store.SigningKey, error) {
	return store.SigningKey{}, ErrNoKeyStore
}

// Revoke is as that of a Ring.
func (p Past) Revoke(ctx context.Context, id string) (store.SigningKey, error) {
	return p.Store.Revoke(ctx, id, p.Now())
}
