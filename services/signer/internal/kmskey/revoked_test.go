package kmskey_test

import (
	"context"
	"crypto/elliptic"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/identity"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keyring"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/kmskey"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/kmstest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

func newStore(t *testing.T) store.Store {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldb.Config{Driver: sqldb.SQLite, DSN: filepath.Join(t.TempDir(), "signer.db")}, store.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s, err := store.New(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var errLost = errors.New("lost")

// lost is a database that fails when the revocation is to be written.
type lost struct{ store.Store }

func (lost) Revoke(context.Context, string, time.Time) (store.SigningKey, error) {
	return store.SigningKey{}, errLost
}

// refuses checks that nothing is signed and that the bundle lists the key as revoked.
func refuses(t *testing.T, name string, s keyring.Database, dir, id string) {
	t.Helper()
	durable := keyring.Durable(s, &keystore.Dir{Path: dir})
	keys := kmskey.New("hardware", kmstest.URI, durable, limits(), time.Now)
	if _, err := identity.NewKeyed("hardware", keys, nil).Sign(t.Context(), payload(t)); !errors.Is(err, kmskey.ErrRevoked) {
		t.Errorf("%s: Sign() with a revoked key = %v, want ErrRevoked", name, err)
	}
	trusted, err := keys.Trusted(t.Context())
	if err != nil || len(trusted) != 1 || trusted[0].ID != id || trusted[0].Revoked.IsZero() {
		t.Errorf("%s: Trusted() = %+v, %v", name, trusted, err)
	}
	listed, err := keyring.Past{Store: durable, Now: time.Now}.List(t.Context())
	if err != nil || len(listed) != 1 || listed[0].ID != id || listed[0].RevokeTime.IsZero() {
		t.Errorf("%s: List() = %+v, %v", name, listed, err)
	}
}

// TestKeys_NothingRevivesARevokedKey: the URI still leads to the revoked key, and the
// database or the directory is lost, restored or damaged.
func TestKeys_NothingRevivesARevokedKey(t *testing.T) {
	kms := kmstest.New(t)
	s, dir := newStore(t), filepath.Join(t.TempDir(), "keys") // it does not exist yet
	durable := keyring.Durable(s, &keystore.Dir{Path: dir})
	keys := kmskey.New("hardware", kmstest.URI, durable, limits(), time.Now)
	key, err := keys.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id := key.KeyID()
	// A crash after the directory was told, before the database was.
	past := keyring.Past{Store: keyring.Durable(lost{s}, &keystore.Dir{Path: dir}), Now: time.Now}
	if _, err := past.Revoke(t.Context(), id); !errors.Is(err, errLost) {
		t.Fatalf("Revoke() = %v", err)
	}
	// The running signer still holds the public key and notices at its next signature.
	if _, err := keys.Current(t.Context()); !errors.Is(err, kmskey.ErrRevoked) {
		t.Errorf("Current() of the running signer = %v, want ErrRevoked", err)
	}
	restored := newStore(t)
	if err := restored.AddKey(t.Context(), store.SigningKey{ID: id, PublicPEM: key.PublicPEM(), SeenTime: time.Now(), Identity: "hardware"}); err != nil {
		t.Fatal(err)
	}
	for name, database := range map[string]store.Store{"crash": s, "lost": newStore(t), "restored": restored} {
		refuses(t, name, database, dir, id)
	}
	// The directory is lost: the database tells it again, and then is lost itself.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	refuses(t, "directory lost", s, dir, id)
	refuses(t, "then the database", newStore(t), dir, id)
	// Another key behind the URI is used at once.
	pub := kms.Rotate(t, elliptic.P256())
	if k, err := keys.Current(t.Context()); err != nil || k.KeyID() != attest.KeyID(pub) {
		t.Errorf("after the rotation in the KMS: %v", err)
	}
	// Of a damaged directory nothing is believed.
	if err := os.WriteFile(filepath.Join(dir, "revoked-"+id+".json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Current(t.Context()); !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("Current() with a damaged revocation = %v, want ErrCorrupt", err)
	}
}

// TestKeys_RevokedThoughNotWritten: a directory that takes no file delays no revocation,
// and the record is written as soon as it takes one.
func TestKeys_RevokedThoughNotWritten(t *testing.T) {
	kmstest.New(t)
	s, dir := newStore(t), filepath.Join(t.TempDir(), "keys")
	// A link that leads nowhere: there are no records, and no directory can be made.
	if err := os.Symlink(filepath.Join(t.TempDir(), "no", "where"), dir); err != nil {
		t.Fatal(err)
	}
	durable := keyring.Durable(s, &keystore.Dir{Path: dir})
	keys := kmskey.New("hardware", kmstest.URI, durable, limits(), time.Now)
	key, err := keys.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := durable.Revoke(t.Context(), key.KeyID(), time.Now()); !errors.Is(err, keystore.ErrNotWritten) {
		t.Errorf("Revoke() = %v, want ErrNotWritten", err)
	}
	refuses(t, "in the database alone", s, dir, key.KeyID())
	if _, err := durable.Sync(t.Context()); !errors.Is(err, keystore.ErrNotWritten) {
		t.Errorf("Sync() = %v, want ErrNotWritten", err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	refuses(t, "the directory can be made", s, dir, key.KeyID())
	refuses(t, "and the database is lost", newStore(t), dir, key.KeyID())
}
