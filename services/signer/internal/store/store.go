// Package store keeps the signing log and the public keys that ever signed.
// It is one interface with one SQL implementation for SQLite and PostgreSQL; the
// suite in storetest says what an implementation has to do.
package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"
)

// ErrNotFound says that there is no such entry.
var ErrNotFound = errors.New("not in the signing log")

// Key identifies an entry: one attestation for each subject, predicate type and
// content in a repository.
type Key struct {
	Registry      string
	Repository    string
	SubjectDigest string
	PredicateType string
	// ContentKey is the digest of what the claim was made from.
	ContentKey string
}

// ID is the hex SHA-256 of the key's parts.
func (k Key) ID() string {
	h := sha256.New()
	for _, s := range []string{k.Registry, k.Repository, k.SubjectDigest, k.PredicateType, k.ContentKey} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(s)))
		h.Write(size[:])
		h.Write([]byte(s))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Entry is one row of the signing log.
type Entry struct {
	Key
	// ContentDigest is the digest of the signed statement.
	ContentDigest string
	// KeyID names the key that signed.
	KeyID string
	// Bundle is the signed bundle; List leaves it out.
	Bundle []byte
	// SignTime is when it was signed, in whole seconds.
	SignTime time.Time
	TraceID  string
	// ManifestDigest is the referrer in the registry; empty before it is done.
	ManifestDigest string
	// DoneTime is when it was read back from the registry; zero for an intent.
	DoneTime time.Time
}

// Done reports whether the attestation was seen in the registry.
func (e Entry) Done() bool { return !e.DoneTime.IsZero() }

// Cursor is a position in a list: after the entry with this time and id.
type Cursor struct {
	SignTime time.Time
	ID       string
}

// Query chooses entries that are done.
type Query struct {
	// SubjectDigest is mandatory; Registry and Repository narrow it if not empty.
	SubjectDigest, Registry, Repository string
	// After is nil for the first page.
	After *Cursor
	// Limit is the largest number of entries, at least 1.
	Limit int
}

// SigningKey is a public key that signs or signed.
type SigningKey struct {
	ID        string
	PublicPEM string
	// StartTime and EndTime bound its use; zero is no bound.
	StartTime, EndTime time.Time
	// SeenTime is when the signer first started with it.
	SeenTime time.Time
}

// Store is the signing log. All methods are safe for concurrent use, also by
// several processes.
type Store interface {
	// Get returns an entry with its bundle, or ErrNotFound.
	Get(ctx context.Context, k Key) (Entry, error)
	// Begin stores an entry unless there is one with its key, and returns the one
	// that is stored. Of several callers with one key all get the same entry.
	Begin(ctx context.Context, e Entry) (Entry, error)
	// Finish records that the attestation is in the registry under a manifest
	// digest, or ErrNotFound.
	Finish(ctx context.Context, k Key, manifestDigest string, at time.Time) error
	// List returns entries without their bundles, newest first.
	List(ctx context.Context, q Query) ([]Entry, error)
	// AddKey stores a key unless it is there.
	AddKey(ctx context.Context, k SigningKey) error
	// Keys returns all keys, the latest seen first.
	Keys(ctx context.Context) ([]SigningKey, error)
}
