package keyring_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keyring"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
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

func open(t *testing.T, s keyring.Keys, dir string) *keyring.Ring {
	t.Helper()
	r, err := keyring.Open(t.Context(), s, &keystore.Dir{Path: dir, Password: []byte("password"), Generate: true, Algorithm: keystore.Ed25519}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func current(t *testing.T, r *keyring.Ring) string {
	t.Helper()
	k, err := r.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return k.KeyID()
}

func TestRing_ReplicasFollow(t *testing.T) {
	s, dir := newStore(t), t.TempDir()
	one, two := open(t, s, dir), open(t, s, dir)
	first := current(t, one)
	made, err := one.Rotate(t.Context(), "request")
	if err != nil {
		t.Fatal(err)
	}
	if got := current(t, two); got != made.ID || got == first {
		t.Errorf("the other replica signs with %s, want %s", got, made.ID)
	}
	keys, err := two.Trusted(t.Context())
	if err != nil || len(keys) != 2 {
		t.Fatalf("Trusted() = %v, %v", keys, err)
	}
	// The directory is restored from a backup of before: nothing may be signed.
	if err := os.Remove(filepath.Join(dir, "key-"+made.ID+".key")); err != nil {
		t.Fatal(err)
	}
	_, err = keyring.Open(t.Context(), s, &keystore.Dir{Path: dir, Password: []byte("password")}, time.Now)
	if !errors.Is(err, keyring.ErrKeyMissing) {
		t.Errorf("Open() without the key in use = %v, want ErrKeyMissing", err)
	}
}

func TestRing_OneReplicaEachWithItsOwnKey(t *testing.T) {
	s := newStore(t)
	one, two := open(t, s, t.TempDir()), open(t, s, t.TempDir())
	if a, b := current(t, one), current(t, two); a == b {
		t.Error("two directories have one key")
	}
	if _, err := one.Rotate(t.Context(), "request"); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Current(t.Context()); !errors.Is(err, keyring.ErrKeyMissing) {
		t.Errorf("Current() of the replica without the new key = %v, want ErrKeyMissing", err)
	}
}

// lost is a database that fails when the rotation is to be written.
type lost struct{ store.Store }

var errLost = errors.New("lost")

func (lost) Rotate(context.Context, string, store.SigningKey, time.Time) (store.SigningKey, error) {
	return store.SigningKey{}, errLost
}

func TestRing_CrashWhileRotating(t *testing.T) {
	s, dir := newStore(t), t.TempDir()
	r := open(t, lost{s}, dir)
	first := current(t, r)
	if _, err := r.Rotate(t.Context(), "request"); !errors.Is(err, errLost) {
		t.Fatalf("Rotate() = %v", err)
	}
	r = open(t, s, dir)
	if got := current(t, r); got != first {
		t.Errorf("signs with %s after a rotation that failed", got)
	}
	made, err := r.Rotate(t.Context(), "request")
	if err != nil || current(t, r) != made.ID {
		t.Errorf("Rotate() again = %v, %v", made, err)
	}
}
