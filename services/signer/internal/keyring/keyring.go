// Package keyring knows which of the signer's keys is in use, makes a new one
// when it is asked to, and what is believed of the old ones. The private keys are
// in the key store's directory, with a record of which is the newest and which are
// revoked, and all but the private keys is in the database too, so that replicas on one
// directory and one database change keys together. The directory is written first.
// Losing or restoring one of the two makes no key valid again.
package keyring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
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

// Database is the part of the store that the ring uses.
type Database interface {
	AddKey(ctx context.Context, k store.SigningKey) error
	Keys(ctx context.Context) ([]store.SigningKey, error)
	Rotated(ctx context.Context, requestID string) (store.SigningKey, error)
	Rotate(ctx context.Context, requestID string, k store.SigningKey, end time.Time) (store.SigningKey, error)
	Revoke(ctx context.Context, id string, at time.Time) (store.SigningKey, error)
	Adopt(ctx context.Context, keys []store.SigningKey) error
}

// Ring is safe for concurrent use.
type Ring struct {
	store     Database
	dir       *keystore.Dir
	now       func() time.Time
	mu        sync.Mutex
	loaded    map[string]keystore.Identity
	generated bool
}

// Open opens the directory's first key and writes it into the database. Of a key
// that was brought along nobody knows since when it has been signing, so it gets
// no start.
func Open(ctx context.Context, db Database, dir *keystore.Dir, now func() time.Time) (*Ring, error) {
	key, err := dir.Open()
	if err != nil {
		return nil, fmt.Errorf("key store: %w", err)
	}
	s := Durable(db, dir)
	r := &Ring{store: s, dir: dir, now: now, generated: key.Generated(), loaded: map[string]keystore.Identity{key.KeyID(): key}}
	// First what the directory knows: a database that was lost has the first key only.
	if _, err := r.agree(ctx); err != nil {
		return nil, err
	}
	row := store.SigningKey{ID: key.KeyID(), PublicPEM: key.PublicPEM(), SeenTime: now()}
	if key.Generated() {
		row.StartTime = now().Add(-clockSkew)
	}
	if err := s.AddKey(ctx, row); err != nil {
		return nil, err
	}
	_, err = r.Current(ctx)
	return r, err
}

// Generated says whether Open made the first key.
func (r *Ring) Generated() bool { return r.generated }

// Current returns the key in use: the latest that is neither at its end nor
// revoked and that the directory has. It asks directory and database each time, so that
// the rotation by another replica is noticed before the next signature.
func (r *Ring) Current(ctx context.Context) (keystore.Identity, error) {
	keys, err := r.agree(ctx)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, k := range keys {
		if !k.InUse() {
			continue
		}
		id, err := r.load(k.ID)
		if errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, k.ID)
			continue
		}
		return id, err
	}
	if len(missing) == 0 {
		return nil, fmt.Errorf("%w: all keys of the database are at their end or revoked: rotate the key", ErrKeyMissing)
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
	// A database that was restored may call a key good that the directory knows to be
	// revoked: what is not compared is not told.
	if _, err := r.agree(ctx); err != nil && !errors.Is(err, ErrDisagree) {
		return nil, err
	}
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
	keys, err := r.agree(ctx)
	if err != nil && keys == nil {
		return nil, err
	}
	out := make([]attest.TrustedKey, 0, len(keys))
	for _, k := range keys {
		pub, err := cryptoutils.UnmarshalPEMToPublicKey([]byte(k.PublicPEM))
		if err != nil {
			return nil, fmt.Errorf("key %s in the database: %w", k.ID, err)
		}
		out = append(out, attest.TrustedKey{Key: pub, ID: k.ID, NotBefore: k.StartTime, NotAfter: k.EndTime, Revoked: k.RevokeTime})
	}
	return out, nil
}

// Rotate makes a new key and ends all others, once for each request. File and record of
// the key are there before the database knows of it: after a crash in between it is the
// newest key all the same, and the same request goes on with it.
func (r *Ring) Rotate(ctx context.Context, requestID string) (store.SigningKey, error) {
	unlock, err := r.dir.Lock()
	if err != nil {
		return store.SigningKey{}, err
	}
	defer unlock()
	done, err := r.store.Rotated(ctx, requestID)
	if !errors.Is(err, store.ErrNotFound) {
		return done, err
	}
	records, err := r.dir.Records()
	if err != nil {
		return store.SigningKey{}, err
	}
	at := slices.IndexFunc(records, func(k keystore.Record) bool { return k.RequestID == requestID && requestID != "" })
	var record keystore.Record
	if at >= 0 {
		record = records[at]
	} else {
		made, err := r.dir.Create()
		if err != nil {
			return store.SigningKey{}, err
		}
		now := r.now()
		record = keystore.Record{
			KeyID: made.KeyID(), PublicPEM: made.PublicPEM(), Generation: next(records),
			StartTime: now.Add(-clockSkew), MadeTime: now, RequestID: requestID,
		}
		if err := r.dir.Keep(record); err != nil {
			return store.SigningKey{}, errors.Join(err, r.dir.Discard(made))
		}
	}
	return r.store.Rotate(ctx, requestID, store.SigningKey{
		ID: record.KeyID, PublicPEM: record.PublicPEM, StartTime: record.StartTime, SeenTime: record.MadeTime,
	}, record.MadeTime.Add(clockSkew))
}

// Revoke ends all belief in a key from now on: store.ErrNotFound, store.ErrInUse. The
// directory knows it before the database does: after a crash in between it is revoked.
func (r *Ring) Revoke(ctx context.Context, id string) (store.SigningKey, error) {
	unlock, err := r.dir.Lock()
	if err != nil {
		return store.SigningKey{}, err
	}
	defer unlock()
	all, err := r.store.Keys(ctx)
	if err != nil {
		return store.SigningKey{}, err
	}
	at := slices.IndexFunc(all, func(k store.SigningKey) bool { return k.ID == id })
	switch {
	case at < 0:
		return store.SigningKey{}, store.ErrNotFound
	case !all[at].Revocable():
		return store.SigningKey{}, store.ErrInUse
	}
	now := r.now()
	if all[at].Identity == "" {
		records, err := r.dir.Records()
		if err != nil {
			return store.SigningKey{}, err
		}
		// A key whose file is elsewhere has no record yet, and a revocation needs one.
		if !slices.ContainsFunc(records, func(k keystore.Record) bool { return k.KeyID == id }) {
			k := all[at]
			err := r.dir.Keep(keystore.Record{KeyID: id, PublicPEM: k.PublicPEM, Generation: 1, StartTime: k.StartTime, MadeTime: k.SeenTime})
			if err != nil {
				return store.SigningKey{}, err
			}
		}
		if err := r.dir.Revoke(id, now); err != nil {
			return store.SigningKey{}, err
		}
	}
	return r.store.Revoke(ctx, id, now)
}
