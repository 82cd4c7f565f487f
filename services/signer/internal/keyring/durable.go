package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// Durable returns the keys of a database whose revocations are also kept in the key
// store's directory, those of KMS keys too. Losing or restoring one of the two makes no
// revoked key valid again.
func Durable(db Database, dir *keystore.Dir) *DurableKeys {
	return &DurableKeys{Database: db, dir: dir}
}

// DurableKeys are made by Durable.
type DurableKeys struct {
	Database
	dir *keystore.Dir
}

// Keys compares the database with the directory and returns all keys, the latest seen
// first. A record that cannot be written now is written later: until then the database
// alone knows of the revocation. It fails if the directory cannot be read.
func (d *DurableKeys) Keys(ctx context.Context) ([]store.SigningKey, error) {
	keys, err := d.Sync(ctx)
	if errors.Is(err, keystore.ErrNotWritten) {
		err = nil
	}
	return keys, err
}

// Sync is Keys, but with the error of a record that could not be written.
func (d *DurableKeys) Sync(ctx context.Context) ([]store.SigningKey, error) {
	records, err := d.dir.AllRevoked()
	if err != nil {
		return nil, err
	}
	rows, err := d.Database.Keys(ctx)
	if err != nil {
		return nil, err
	}
	var learn []store.SigningKey
	for _, r := range records {
		if at := indexOf(rows, r.KeyID); at < 0 || rows[at].RevokeTime.IsZero() {
			learn = append(learn, store.SigningKey{
				ID: r.KeyID, PublicPEM: r.PublicPEM, Identity: r.Identity, SeenTime: r.RevokeTime, RevokeTime: r.RevokeTime,
			})
		}
	}
	if len(learn) > 0 {
		if err := d.Adopt(ctx, learn); err != nil {
			return nil, err
		}
		if rows, err = d.Database.Keys(ctx); err != nil {
			return nil, err
		}
	}
	for _, k := range rows {
		recorded := slices.ContainsFunc(records, func(r keystore.Revoked) bool { return r.KeyID == k.ID })
		if k.RevokeTime.IsZero() || recorded {
			continue
		}
		if err := d.keep(k, k.RevokeTime); err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// Revoke writes the record first, so that the key is revoked after a crash in between. If
// the record cannot be written the key is revoked in the database all the same, and the
// error is keystore.ErrNotWritten.
func (d *DurableKeys) Revoke(ctx context.Context, id string, at time.Time) (store.SigningKey, error) {
	rows, err := d.Keys(ctx)
	if err != nil {
		return store.SigningKey{}, err
	}
	i := indexOf(rows, id)
	switch {
	case i < 0:
		return store.SigningKey{}, store.ErrNotFound
	case !rows[i].Revocable():
		return store.SigningKey{}, store.ErrInUse
	}
	notKept := d.keep(rows[i], at)
	k, err := d.Database.Revoke(ctx, id, at)
	return k, errors.Join(err, notKept)
}

func (d *DurableKeys) keep(k store.SigningKey, at time.Time) error {
	err := d.dir.KeepRevoked(keystore.Revoked{KeyID: k.ID, PublicPEM: k.PublicPEM, Identity: k.Identity, RevokeTime: at})
	if err != nil {
		return fmt.Errorf("keep the revocation of key %s: %w", k.ID, err)
	}
	return nil
}

func indexOf(rows []store.SigningKey, id string) int {
	return slices.IndexFunc(rows, func(k store.SigningKey) bool { return k.ID == id })
}
