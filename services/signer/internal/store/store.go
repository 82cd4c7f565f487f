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
	"strconv"
	"time"
)

// ErrNotFound says that there is no such entry.
var ErrNotFound = errors.New("not in the signing log")

// ErrInUse says that a key still signs.
var ErrInUse = errors.New("the key is in use")

// Line is what an attestation is about and what kind it is. Of one line one
// attestation is in force: the one with the latest claim.
type Line struct {
	Registry      string
	Repository    string
	SubjectDigest string
	PredicateType string
	// Identity is the name of what signs; it is empty for the keys of the key store.
	Identity string
}

// Key is a line and a content.
type Key struct {
	Line
	// ContentKey is the digest of what the claim was made from.
	ContentKey string
}

// ID is the identity of a new entry: the hex SHA-256 of the parts of its key, of
// the time of its claim and of the key that signs it.
func ID(k Key, claimTime time.Time, keyID string) string {
	h := sha256.New()
	parts := []string{
		k.Registry, k.Repository, k.SubjectDigest, k.PredicateType, k.ContentKey,
		strconv.FormatInt(claimTime.UnixNano(), 10), keyID,
	}
	if k.Identity != "" { // releases that had one identity left it out
		parts = append(parts, k.Identity)
	}
	for _, s := range parts {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(s)))
		h.Write(size[:])
		h.Write([]byte(s))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Entry is one row of the signing log.
type Entry struct {
	// ID is that of the function ID, or another one in rows of older releases.
	ID string
	Key
	// ClaimTime is when what it says was found to be true. It is zero in rows of
	// older releases.
	ClaimTime time.Time
	// ContentDigest is the digest of the signed statement.
	ContentDigest string
	// KeyID names the key that signed, or the subject of the certificate.
	KeyID string
	// LogIndex is the place in a transparency log; nil if it is in none.
	LogIndex *int64
	// ProvenTime is when it was signed, as a timestamp authority or a log says; zero
	// if nobody does.
	ProvenTime time.Time
	// Manifest is the referrer's manifest, which names the signed bundle by its digest:
	// the bundle itself is in the repository before its entry is here. Only Get reads
	// it.
	Manifest []byte
	// Bundle is the signed bundle in rows of older releases, which have no Manifest.
	// Only Get reads it: it may be large.
	Bundle []byte
	// SignTime is when it was signed, in whole seconds.
	SignTime time.Time
	TraceID  string
	// ManifestDigest is the referrer in the registry; empty before it is done.
	ManifestDigest string
	// DoneTime is when it was read back from the registry; zero for an intent.
	DoneTime time.Time
	// SupersededTime is when a later one of its line was done; zero while it is in force.
	SupersededTime time.Time
	// Removal is what became of it in the registry after that.
	Removal Removal
}

// Removal is what became of a superseded attestation in its registry.
type Removal string

// Removals.
const (
	// Pending: it is still there.
	Pending Removal = ""
	// Deleted: it is gone.
	Deleted Removal = "deleted"
	// Kept: the registry does not delete.
	Kept Removal = "kept"
)

// Done reports whether the attestation was seen in the registry.
func (e Entry) Done() bool { return !e.DoneTime.IsZero() }

// Finished names an attestation that is in the registry.
type Finished struct {
	// ID is that of the entry.
	ID string
	// ManifestDigest is the digest of the referrer's manifest.
	ManifestDigest string
}

// Cursor is a position in a list: after the entry with this time and id.
type Cursor struct {
	SignTime time.Time
	ID       string
}

// Query chooses entries that are done and not deleted.
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
	// RevokeTime is when all belief in it ended; zero if it was not revoked.
	RevokeTime time.Time
	// Identity is the name of the identity whose key it is; it is empty for the keys
	// of the key store.
	Identity string
}

// InUse reports whether it may sign.
func (k SigningKey) InUse() bool { return k.EndTime.IsZero() && k.RevokeTime.IsZero() }

// Revocable says whether the key may be revoked. A key of the key store has to be rotated
// first. The signer does not know when a key of a KMS ends, so it can be revoked at any
// time; nothing is signed then until the KMS leads to another key.
func (k SigningKey) Revocable() bool { return !k.EndTime.IsZero() || k.Identity != "" }

// Store is the signing log. All methods are safe for concurrent use, also by
// several processes.
type Store interface {
	// Get returns an entry with its manifest and bundle, or ErrNotFound.
	Get(ctx context.Context, id string) (Entry, error)
	// Current returns the entry of a line with the latest claim, done or not,
	// without manifest and bundle, or ErrNotFound.
	Current(ctx context.Context, l Line) (Entry, error)
	// Begin stores entries, all or none of them, each unless serves says of the current
	// one of its line that it does, or there is one with its ID, and returns the ones
	// that are stored, in their order: those of entries as they are, others without
	// manifest and bundle. Of several callers with one content all get the same entry.
	Begin(ctx context.Context, entries []Entry, serves func(i int, current Entry) bool) ([]Entry, error)
	// Finish records that attestations are in the registry, all or none of them; it is
	// ErrNotFound if one is not in the log. What is older in their lines is superseded
	// from then on.
	Finish(ctx context.Context, done []Finished, at time.Time) error
	// Lose records that the bundle of an entry, which Get returned, is no longer in its
	// repository. From then on the entry is not in force, and Begin stores one with its
	// ID in its place. It does nothing if the entry has another manifest now.
	Lose(ctx context.Context, e Entry, at time.Time) error
	// List returns entries without their bundles, newest first.
	List(ctx context.Context, q Query) ([]Entry, error)
	// Known returns the digests of the manifests of a line that are in the log,
	// whatever identity signed them.
	Known(ctx context.Context, l Line) (map[string]bool, error)
	// Superseded returns entries, without their bundles, that were superseded
	// before a time and are still in the registry, in the order of their IDs,
	// from after an ID on.
	Superseded(ctx context.Context, before time.Time, after string, limit int) ([]Entry, error)
	// SetRemoval records what became of a superseded entry.
	SetRemoval(ctx context.Context, id string, r Removal) error
	// AddKey stores a key unless it is there.
	AddKey(ctx context.Context, k SigningKey) error
	// Keys returns all keys, the latest seen first.
	Keys(ctx context.Context) ([]SigningKey, error)
	// Rotated returns the key that was made for a request, or ErrNotFound.
	Rotated(ctx context.Context, requestID string) (SigningKey, error)
	// Rotate ends all keys in use of the key store and stores a new one, unless that was done for
	// the request before. It returns the key that the request got.
	Rotate(ctx context.Context, requestID string, k SigningKey, end time.Time) (SigningKey, error)
	// Revoke revokes a key and returns it: ErrNotFound, and ErrInUse if it is not
	// Revocable. A key that was revoked stays as it is.
	Revoke(ctx context.Context, id string, at time.Time) (SigningKey, error)
	// Adopt adds keys, and gives those that are there the end and the revocation that they
	// lack. It takes neither away.
	Adopt(ctx context.Context, keys []SigningKey) error
}
