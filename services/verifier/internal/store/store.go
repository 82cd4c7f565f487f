// Package store keeps verdicts, what is known of images and tags, changes that
// wait to be published, and the last good trust bundle.
//
// Verdicts are numbered without gaps in the order in which they become visible,
// so a reader that remembers a number can go on from it and misses nothing.
// There is one SQL text for SQLite and PostgreSQL; storetest.Run accepts an
// engine.
package store

import (
	"context"
	"embed"
	"errors"
	"io/fs"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// ErrConflict says that another verdict of the image was stored since the
// caller looked; look again.
var ErrConflict = errors.New("another verdict of the image was stored meanwhile")

// ErrNotFound says that there is nothing of that name.
var ErrNotFound = errors.New("not found")

// Store is what the service keeps. Times have nanoseconds, the zero time is
// kept as such.
type Store interface {
	// RecordPush notes that an image is on its way. A push that is older than the
	// verdict there is changes nothing but the tag; a push of a tag that is older
	// than the one known does not move the tag. The digest may be empty.
	RecordPush(ctx context.Context, image imageref.Ref, pushed time.Time) error
	// RecordDigest tells the digest of a tag whose push came without one.
	RecordDigest(ctx context.Context, image imageref.Ref) error
	// FailTag notes that the digest of a pushed tag will not become known.
	FailTag(ctx context.Context, image imageref.Ref, problem string) error
	// ResolveTag returns the digest that a tag had at the last push. The problem is
	// set if the push failed before the digest was known. ErrNotFound if the tag
	// was never pushed.
	ResolveTag(ctx context.Context, image imageref.Ref) (digest, problem string, err error)

	// Images returns what is known of a digest: in one repository, or in all if the
	// reference names none, at most MaxImages, refused ones first.
	Images(ctx context.Context, image imageref.Ref) ([]Image, error)
	// Save stores a verdict unless it says what the newest one says already.
	// Either way the image no longer waits, nor for a push from before the verdict
	// that is recorded later.
	Save(ctx context.Context, v NewVerdict) (Saved, error)
	// Settle ends the waiting of an image without a new verdict.
	Settle(ctx context.Context, image imageref.Ref) error
	// List returns the newest verdict of each image, latest change first.
	List(ctx context.Context, q ListQuery) ([]Record, error)
	// Changes returns verdicts after a sequence, in order, at most limit.
	Changes(ctx context.Context, after int64, limit int) ([]Record, error)
	// LastSequence returns the sequence of the newest verdict, 0 if there is none.
	LastSequence(ctx context.Context) (int64, error)
	// ReportTimes returns the signing time of the newest report judged in the
	// image's repository for each of the platform manifests that has one.
	ReportTimes(ctx context.Context, image imageref.Ref, digests []string) (map[string]time.Time, error)

	// Outbox returns changes that were not published yet, in order, at most limit.
	Outbox(ctx context.Context, limit int) ([]OutboxEntry, error)
	// Published takes a change out of the outbox.
	Published(ctx context.Context, sequence int64) error

	// SaveTrust keeps the last good trust bundle of a source.
	SaveTrust(ctx context.Context, source string, body []byte, fetched time.Time) error
	// LoadTrust returns it, or ErrNotFound.
	LoadTrust(ctx context.Context, source string) (body []byte, fetched time.Time, err error)
}

// MaxImages bounds the answer of Images.
const MaxImages = 1000

// Image is what is known of an image in one repository.
type Image struct {
	Registry, Repository, Digest string
	// Pending is the time of a push that waits for a verdict; zero if none does.
	Pending time.Time
	// Latest is nil if there is no verdict.
	Latest *Record
}

// Record is a stored verdict.
type Record struct {
	Sequence      int64
	Image         imageref.Ref
	State         core.State
	PreviousState core.State
	Digest        string
	TraceID       string
	CreateTime    time.Time
	// Body is the verdict as the caller encoded it.
	Body []byte
}

// NewVerdict is a verdict to store.
type NewVerdict struct {
	Image  imageref.Ref
	State  core.State
	Digest string
	// ChangeKey is equal for verdicts that say the same.
	ChangeKey string
	TraceID   string
	// Headers carry the trace context to whoever publishes the change.
	Headers    string
	CreateTime time.Time
	ExpireTime time.Time
	Body       []byte
	// After is the sequence of the newest verdict that the caller saw, 0 for none.
	After int64
	// ReportTimes are the signing times of the reports judged, by digest of the
	// platform manifest.
	ReportTimes map[string]time.Time
}

// Saved tells what Save did.
type Saved struct {
	// Changed is false if the newest verdict said the same already.
	Changed bool
	// Sequence of the newest verdict.
	Sequence int64
	// Previous is the state before.
	Previous core.State
}

// ListQuery chooses verdicts.
type ListQuery struct {
	// Before is the sequence to go on below; 0 starts with the newest.
	Before int64
	Limit  int
	// State counts a verdict past its end as UNKNOWN; StateUnspecified lists all.
	State core.State
	// Repository is `registry/repository`, or empty for all.
	Repository string
	Now        time.Time
}

// OutboxEntry is a change to publish.
type OutboxEntry struct {
	Record
	Headers string
}

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations returns the schema's migrations.
func Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the embedded folder is part of this package
	}
	return sub
}
