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

func open(t *testing.T, s keyring.Database, dir string) *keyring.Ring {
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
	// The key store knows the new key already: the rotation is finished, not undone.
	r = open(t, s, dir)
	second := current(t, r)
	if second == first {
		t.Error("signs with the key that the key store says is replaced")
	}
	made, err := r.Rotate(t.Context(), "request")
	if err != nil || made.ID != second || current(t, r) != second {
		t.Errorf("Rotate() again = %v, %v, want the key that was made", made, err)
	}
}

func (lost) Revoke(context.Context, string, time.Time) (store.SigningKey, error) {
	return store.SigningKey{}, errLost
}

func revoked(t *testing.T, r *keyring.Ring, id string) bool {
	t.Helper()
	keys, err := r.Trusted(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if k.ID == id {
			return !k.Revoked.IsZero()
		}
	}
	t.Fatalf("key %s is not known", id)
	return false
}

// TestRing_NothingRevivesARevokedKey loses the database, restores it from before the
// rotation, crashes between directory and database, and loses what the directory says.
func TestRing_NothingRevivesARevokedKey(t *testing.T) {
	s, dir := newStore(t), t.TempDir()
	r := open(t, s, dir)
	first := current(t, r)
	made, err := r.Rotate(t.Context(), "request")
	if err != nil {
		t.Fatal(err)
	}
	// A crash after the directory was told, before the database was.
	if _, err := open(t, lost{s}, dir).Revoke(t.Context(), first); !errors.Is(err, errLost) {
		t.Fatalf("Revoke() = %v", err)
	}
	restored := newStore(t)
	if err := restored.AddKey(t.Context(), store.SigningKey{ID: first, PublicPEM: pemOf(t, s, first), SeenTime: time.Now()}); err != nil {
		t.Fatal(err)
	}
	for name, database := range map[string]store.Store{"crash": s, "lost": newStore(t), "restored": restored} {
		r := open(t, database, dir)
		if got := current(t, r); got != made.ID {
			t.Errorf("%s: signs with %s, want %s", name, got, made.ID)
		}
		if !revoked(t, r, first) || revoked(t, r, made.ID) {
			t.Errorf("%s: the revoked key is good again", name)
		}
	}
	// The directory is restored from before the revocation: the database tells it.
	if err := os.Remove(filepath.Join(dir, "key-"+first+".revoked")); err != nil {
		t.Fatal(err)
	}
	if r := open(t, s, dir); !revoked(t, r, first) {
		t.Error("the database no longer knows of the revocation")
	}
	if r := open(t, newStore(t), dir); !revoked(t, r, first) {
		t.Error("the directory was not told again")
	}
	// Of a damaged or incomplete directory nothing is believed.
	if err := os.WriteFile(filepath.Join(dir, "key-"+first+".revoked"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = keyring.Open(t.Context(), s, &keystore.Dir{Path: dir, Password: []byte("password")}, time.Now)
	if !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("Open() with a damaged revocation = %v", err)
	}
}

func pemOf(t *testing.T, s store.Store, id string) string {
	t.Helper()
	keys, err := s.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if k.ID == id {
			return k.PublicPEM
		}
	}
	t.Fatalf("no key %s", id)
	return ""
}

// TestRing_Disagreement: nothing tells which key is the newest, so nothing is signed.
func TestRing_Disagreement(t *testing.T) {
	s, dir := newStore(t), t.TempDir()
	r := open(t, s, dir)
	first := current(t, r)
	made, err := r.Rotate(t.Context(), "request")
	if err != nil {
		t.Fatal(err)
	}
	// An earlier release kept no records; with the database the order is lost.
	for _, id := range []string{first, made.ID} {
		if err := os.Remove(filepath.Join(dir, "key-"+id+".json")); err != nil {
			t.Fatal(err)
		}
	}
	_, err = keyring.Open(t.Context(), newStore(t), &keystore.Dir{Path: dir, Password: []byte("password")}, time.Now)
	if !errors.Is(err, keyring.ErrDisagree) {
		t.Errorf("Open() without records and database = %v, want ErrDisagree", err)
	}
	// With the database the records are written again.
	if got := current(t, open(t, s, dir)); got != made.ID {
		t.Errorf("signs with %s, want %s", got, made.ID)
	}
	if got := current(t, open(t, newStore(t), dir)); got != made.ID {
		t.Errorf("after the database was lost: signs with %s, want %s", got, made.ID)
	}
}
