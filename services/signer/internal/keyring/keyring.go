// Package keyring knows which of the signer's keys is in use, makes a new one
// when it is asked to, and what is believed of the old ones. The private keys are
// in the key store's directory, everything else in the database, so that replicas
// on one directory and one database change keys together.
package keyring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// clockSkew is how far other clocks may be off: the verifier's, which may see a
// new key before it begins by its own time, and the scanner's, whose time stands
// in what the old key still signed.
const clockSkew = 5 * time.Minute

// ErrKeyMissing says that no key that is in use is in the directory.
var ErrKeyMissing = errors.New("the key in use is not in keystore.dir")

// Keys is the part of the store that the ring uses.
type Keys interface {
	AddKey(ctx context.Context, k store.SigningKey) error
	Keys(ctx context.Context) ([]store.SigningKey, error)
	Rotated(ctx context.Context, requestID string) (store.SigningKey, error)
	Rotate(ctx context.Context, requestID string, k store.SigningKey, end time.Time) (store.SigningKey, error)
	Revoke(ctx context.Context, id string, at time.Time) (store.SigningKey, error)
}

// Ring is safe for concurrent use.
type Ring struct {
	store     Keys
	dir       *keystore.Dir
	now       func() time.Time
	mu        sync.Mutex
	loaded    map[string]keystore.Identity
	generated bool
}

// Open opens the directory's first key and writes it into the database. Of a key
// that was brought along nobody knows since when it has been signing, so it gets
// no start.
func Open(ctx context.Context, s Keys, dir *keystore.Dir, now func() time.Time) (*Ring, error) {
	key, err := dir.Open()
	if err != nil {
		return nil, fmt.Errorf("key store: %w", err)
	}
	row := store.SigningKey{ID: key.KeyID(), PublicPEM: key.PublicPEM(), SeenTime: now()}
	if key.Generated() {
		row.StartTime = now().Add(-clockSkew)
	}
	if err := s.AddKey(ctx, row); err != nil {
		return nil, err
	}
	r := &Ring{store: s, dir: dir, now: now, generated: key.Generated(), loaded: map[string]keystore.Identity{key.KeyID(): key}}
	_, err = r.Current(ctx)
	return r, err
}

// Generated says whether Open made the first key.
func (r *Ring) Generated() bool { return r.generated }

// Current returns the key in use: the latest that is neither at its end nor
// revoked and that the directory has. It asks the database each time, so that
// the rotation by another replica is noticed before the next signature.
func (r *Ring) Current(ctx context.Context) (keystore.Identity, error) {
	keys, err := r.store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, k := range keys {
		if k.Identity != "" || !k.InUse() {
			continue
		}
		id, err := r.load(k.ID)
		if errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, k.ID)
			continue
		}
		return id, err
	}
	return nil, fmt.Errorf("%w: restore the file of %s, or share one directory between replicas", ErrKeyMissing, strings.Join(missing, " or "))
}

func (r *Ring) load(id string) (keystore.Identity, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k, ok := r.loaded[id]; ok {
		return k, nil
	}
	k, err := r.dir.OpenNamed(id)
	if err != nil {
		return nil, err
	}
	r.loaded[id] = k
	return k, nil
}

// List returns all keys, also those of other identities, the one in use first.
func (r *Ring) List(ctx context.Context) ([]store.SigningKey, error) {
	keys, err := r.store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	current, err := r.Current(ctx)
	if err != nil {
		// What was signed can be verified although nothing can be signed now.
		return keys, nil //nolint:nilerr // see above
	}
	out := make([]store.SigningKey, 0, len(keys))
	for _, first := range []bool{true, false} {
		for _, k := range keys {
			if (k.ID == current.KeyID()) == first {
				out = append(out, k)
			}
		}
	}
	return out, nil
}

// Trusted returns all keys of the ring as those who verify see them.
func (r *Ring) Trusted(ctx context.Context) ([]attest.TrustedKey, error) {
	keys, err := r.store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]attest.TrustedKey, 0, len(keys))
	for _, k := range keys {
		if k.Identity != "" {
			continue // of a KMS
		}
		pub, err := cryptoutils.UnmarshalPEMToPublicKey([]byte(k.PublicPEM))
		if err != nil {
			return nil, fmt.Errorf("key %s in the database: %w", k.ID, err)
		}
		out = append(out, attest.TrustedKey{Key: pub, ID: k.ID, NotBefore: k.StartTime, NotAfter: k.EndTime, Revoked: k.RevokeTime})
	}
	return out, nil
}

// Rotate makes a new key and ends all others, once for each request. The file is
// there before the database knows of it: a crash in between leaves a file that
// nobody uses.
func (r *Ring) Rotate(ctx context.Context, requestID string) (store.SigningKey, error) {
	done, err := r.store.Rotated(ctx, requestID)
	if !errors.Is(err, store.ErrNotFound) {
		return done, err
	}
	made, err := r.dir.Create()
	if err != nil {
		return store.SigningKey{}, err
	}
	now := r.now()
	row, err := r.store.Rotate(ctx, requestID, store.SigningKey{
		ID: made.KeyID(), PublicPEM: made.PublicPEM(), StartTime: now.Add(-clockSkew), SeenTime: now,
	}, now.Add(clockSkew))
	if err == nil && row.ID != made.KeyID() { // another replica was faster with the same request
		err = r.dir.Discard(made)
	}
	return row, err
}

// Revoke ends all belief in a key from now on: store.ErrNotFound, store.ErrInUse.
func (r *Ring) Revoke(ctx context.Context, id string) (store.SigningKey, error) {
	return r.store.Revoke(ctx, id, r.now())
}
