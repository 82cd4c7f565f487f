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
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
)

// ErrConflict says that another verdict of the image was stored since the
// caller looked; look again.
var ErrConflict = errors.New("another verdict of the image was stored meanwhile")

// ErrNotFound says that there is nothing of that name.
var ErrNotFound = errors.New("not found")

// Store is what the service keeps. Times have nanoseconds, the zero time is
// kept as such.
type Store interface {
	// RecordPush notes that an image, by its digest, is on its way. A push that is
	// older than the verdict there is changes nothing.
	RecordPush(ctx context.Context, image imageref.Ref, pushed time.Time) error
	// RecordTag notes which digest the registry gave for a tag when it was asked; an
	// empty one says that it gave none that can be judged. An answer to an older question
	// does not move the tag.
	RecordTag(ctx context.Context, image imageref.Ref, asked time.Time) error
	// FailTag notes that the digest of a pushed tag will not become known. The push
	// may be recorded later than its failure: one from before it changes nothing.
	FailTag(ctx context.Context, image imageref.Ref, problem string, failed time.Time) error
	// ResolveTags returns what tags meant at their last push, in the order asked; nil
	// for a tag that was never pushed.
	ResolveTags(ctx context.Context, images []imageref.Ref) ([]*Tag, error)

	// Lookup returns what is known of images by digest, in the order asked: in one
	// repository, or of a reference that names none in the repository where the
	// verdict is the worst; nil for an image that nothing is known of.
	Lookup(ctx context.Context, images []imageref.Ref, now time.Time) ([]*Image, error)
	// Save stores a verdict unless it says what the newest one says already and need not
	// replace it.
	// Either way the image no longer waits, nor for a push from before the verdict
	// that is recorded later.
	Save(ctx context.Context, v NewVerdict) (Saved, error)
	// Settle ends the waiting of an image without a new verdict.
	Settle(ctx context.Context, image imageref.Ref) error
	// List returns the newest verdict of each image, latest change first.
	List(ctx context.Context, q ListQuery) ([]Record, error)
	// Changes returns verdicts after a sequence, in order, at most limit.
	Changes(ctx context.Context, after int64, limit int) ([]Record, error)
	// ChangedDigests returns the digests of the images of the verdicts after a
	// sequence, in order, at most limit, and the last sequence that it looked at.
	ChangedDigests(ctx context.Context, after int64, limit int) (digests []string, last int64, err error)
	// History returns the verdicts of a digest, latest first: in one repository, or
	// in all if the reference names none; below a sequence unless that is 0.
	History(ctx context.Context, image imageref.Ref, before int64, limit int) ([]Record, error)
	// Verdict returns the newest verdict with a digest, or ErrNotFound.
	Verdict(ctx context.Context, verdictDigest string) (Record, error)
	// Document returns a recorded document, or ErrNotFound. The caller checks that
	// it is what its digest says.
	Document(ctx context.Context, digest string) (record.Document, error)
	// Documents returns those of a few recorded documents that there are. It stops with
	// the one that brings them to limit bytes: what is not there may only not be read yet.
	Documents(ctx context.Context, digests []string, limit int64) (map[string]record.Document, error)
	// LastSequence returns the sequence of the newest verdict, 0 if there is none.
	LastSequence(ctx context.Context) (int64, error)
	// ReportTimes returns the signing time of the newest report judged in the
	// image's repository for each of the platform manifests that has one.
	ReportTimes(ctx context.Context, image imageref.Ref, digests []string) (map[string]time.Time, error)

	// RulesRevision changes with everything that images are judged by besides
	// evidence.
	RulesRevision(ctx context.Context) (int64, error)
	// CreateException adds an exception, of which there may be limit, and orders the
	// images to be judged again. A repeated request returns what it created.
	// ErrExists, ErrTooMany.
	CreateException(ctx context.Context, e Exception, limit int, cause Cause, by Audit) (Exception, error)
	// DeleteException takes an exception away. ErrNotFound, ErrFromFile.
	DeleteException(ctx context.Context, name string, cause Cause, by Audit) error
	// SyncExceptions makes the exceptions from files those given; nothing changes if
	// they are the same. ErrExists if the API has one of that name.
	SyncExceptions(ctx context.Context, fromFiles []Exception, cause Cause, by Audit) error
	// Exceptions lists exceptions after a name, ordered by name, at most limit.
	Exceptions(ctx context.Context, after string, limit int) ([]Exception, error)
	// Exception returns one, or ErrNotFound.
	Exception(ctx context.Context, name string) (Exception, error)

	// CreatePolicy adds a policy, of which there may be limit in force, and orders the
	// images that it is for to be judged again. A repeated request returns what it
	// created. The store sets the version. ErrExists, ErrTooMany.
	CreatePolicy(ctx context.Context, p Policy, limit int, audit Audit) (Policy, error)
	// UpdatePolicy puts a new version in force; the same document and a repeated
	// request make none. ErrNotFound, ErrFromFile, ErrEtag.
	UpdatePolicy(ctx context.Context, p Policy, etag string, audit Audit) (Policy, error)
	// DeletePolicy takes a policy out of force. An empty etag is not compared.
	// ErrNotFound, ErrFromFile, ErrEtag.
	DeletePolicy(ctx context.Context, p Policy, etag string, audit Audit) error
	// SyncPolicies makes the policies from files those given, in one step, and returns
	// the new versions; none if they are the same. The audit says who, when and what;
	// each version has its own. ErrExists if the API has one of that name.
	SyncPolicies(ctx context.Context, fromFiles []Policy, by Audit) ([]Policy, error)
	// Policies lists the policies in force after a name, ordered by name, at most
	// limit.
	Policies(ctx context.Context, after string, limit int) ([]Policy, error)
	// PolicyVersions lists the versions of a policy below one, or all for 0, latest
	// first, at most limit.
	PolicyVersions(ctx context.Context, name string, before int64, limit int) ([]Policy, error)
	// Policy returns a version of a policy, the one in force for 0, or ErrNotFound.
	Policy(ctx context.Context, name string, version int64) (Policy, error)
	// Audits returns unpublished audit records, oldest first, at most
	// limit.
	Audits(ctx context.Context, limit int) ([]Audit, error)
	// AuditPublished takes one of them out.
	AuditPublished(ctx context.Context, id string) error

	// ImportVex keeps a VEX document and orders the images to be judged again; one that
	// is there stays as it is and is returned. ErrTooMany.
	ImportVex(ctx context.Context, v Vex, limits VexLimits, cause Cause, by Audit) (Vex, error)
	// DeleteVex takes one away. ErrNotFound, ErrFromFile.
	DeleteVex(ctx context.Context, digest string, cause Cause, by Audit) error
	// SyncVex makes the documents from files those given. authors is equal as long as
	// the same authors are trusted; nothing changes if all is the same.
	SyncVex(ctx context.Context, fromFiles []Vex, authors []byte, cause Cause, by Audit) error
	// VexDocuments lists documents after a digest, ordered by digest, at most limit.
	VexDocuments(ctx context.Context, after string, limit int) ([]Vex, error)
	// NextReevaluation returns the oldest work of judging images again, or
	// ErrNotFound.
	NextReevaluation(ctx context.Context) (Reevaluation, error)
	// AdvanceReevaluation notes how far the work has come, or that it is done.
	AdvanceReevaluation(ctx context.Context, r Reevaluation, done bool) error
	// JudgedAfter lists images with a verdict after one, in the order of (digest,
	// registry, repository), at most limit.
	JudgedAfter(ctx context.Context, after imageref.Ref, limit int) ([]imageref.Ref, error)
	// Expired lists, in the same order, images whose verdict has ended.
	Expired(ctx context.Context, now time.Time, after imageref.Ref, limit int) ([]imageref.Ref, error)

	// RequestLook orders the registry to be read again for a manifest, because of a
	// hint at a time, when it is due. It coalesces with what is ordered already, and is
	// put off until LookInterval after the last look. If the repository has MaxLooks already
	// and the manifest is no known image, the whole repository is looked at instead.
	RequestLook(ctx context.Context, image imageref.Ref, hinted, due time.Time) error
	// RequestLooks is RequestLook for several manifests.
	RequestLooks(ctx context.Context, images []imageref.Ref, hinted, due time.Time) error
	// NextLooks lists the looks that are due, fairly among repositories, at most limit.
	NextLooks(ctx context.Context, now time.Time, limit int) ([]Look, error)
	// FinishLook notes a look that began at a time and when the next one is; zero plans
	// none. A hint that came after the look began has a look of its own.
	FinishLook(ctx context.Context, l Look, at, next time.Time) error
	// IndexesWith lists the judged indexes of a repository that have a platform
	// manifest.
	IndexesWith(ctx context.Context, platform imageref.Ref) ([]imageref.Ref, error)

	// Lease takes or prolongs a lease; false if another holder has it.
	Lease(ctx context.Context, name, holder string, now time.Time, d time.Duration) (bool, error)

	// RecordScan notes what a scan said that ended, at the time that the verifier learned
	// of it. If it differs from what was judged, the evidence becomes overdue
	// after patience; a report that waits already keeps its time. A scan that is older
	// than what is known changes nothing.
	RecordScan(ctx context.Context, scan Scan, learned time.Time, patience time.Duration) error
	// GiveUp makes the evidence of an image overdue now, because a step gave up on a
	// report. It tells whether a report waits; one from a scan before it changes nothing.
	GiveUp(ctx context.Context, image imageref.Ref, scan time.Time, problem string, now time.Time) (waits bool, err error)
	// Overtake makes the evidence overdue, a time after a report came to wait for it, of
	// images whose report waits while one from a later scan was judged for another image.
	// It returns images for which that is earlier than before.
	Overtake(ctx context.Context, after time.Duration) ([]imageref.Ref, error)
	// Overdue lists images whose evidence is overdue and whose verdict does not say so.
	Overdue(ctx context.Context, now time.Time, limit int) ([]Waiting, error)
	// Backlog counts the reports that wait, late is how long is too long, and the images
	// that could not be judged.
	Backlog(ctx context.Context, now time.Time, late time.Duration) (Backlog, error)

	// ScheduleRetry has an image judged again by itself, in the place of what was
	// scheduled for it before.
	ScheduleRetry(ctx context.Context, r Retry) error
	// EndRetry ends that. Save does too for a verdict by the rules.
	EndRetry(ctx context.Context, image imageref.Ref) error
	// Retries lists what is to be tried until a time, earliest first.
	Retries(ctx context.Context, until time.Time, limit int) ([]Retry, error)
	// Reevaluations lists the work of judging images again, oldest first.
	Reevaluations(ctx context.Context) ([]Reevaluation, error)
	// JudgedIn counts images with a verdict by repository, after one in the order of
	// JudgedAfter.
	JudgedIn(ctx context.Context, after imageref.Ref) ([]RepositoryCount, error)

	// Outbox returns changes that were not published yet, in order, at most limit.
	Outbox(ctx context.Context, limit int) ([]OutboxEntry, error)
	// Published takes a change out of the outbox.
	Published(ctx context.Context, sequence int64) error

	// KeepDeadLetter stores a message that a service gave up on; one that is stored
	// already stays as it is. It drops the oldest by the limits and returns how many of
	// them only because of the size of all.
	KeepDeadLetter(ctx context.Context, l DeadLetter, limits DeadLetterLimits) (early int, err error)
	// DeadLetters lists stored letters, oldest first.
	DeadLetters(ctx context.Context, q DeadLetterQuery) ([]DeadLetter, error)

	// SyncTrust orders all images to be judged again if they were judged by other trust
	// roots than those of the fingerprint, or not by any that is known.
	SyncTrust(ctx context.Context, fingerprint string, cause Cause, by Audit) error
	// Trust returns the fingerprint of the last SyncTrust, empty if there was none. It
	// changes with RulesRevision.
	Trust(ctx context.Context) (string, error)
	// SaveTrust keeps the last good trust bundle of a source.
	SaveTrust(ctx context.Context, source string, body []byte, fetched time.Time) error
	// LoadTrust returns it, or ErrNotFound.
	LoadTrust(ctx context.Context, source string) (body []byte, fetched time.Time, err error)
}

// AnyRevision is the revision of a verdict that no rule had a part in.
const AnyRevision = -1

// Tag is what a tag meant at its last push.
type Tag struct {
	// Digest is empty while it is not known.
	Digest string
	// Problem is set if the push failed before the digest was known.
	Problem string
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
	// Cause of the change.
	Cause Cause
	// OverdueTime is when the evidence of the image becomes overdue; zero while no report
	// waits, and for all but its newest verdict.
	OverdueTime time.Time
}

// Cause says why a verdict changed.
type Cause struct {
	Kind core.Cause
	// Detail is for people, at most core.MaxText bytes.
	Detail string
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
	Cause       Cause
	// Revision of the rules that it was made by; AnyRevision if by none. A verdict
	// by rules that are not in force any more is an ErrConflict.
	Revision int64
	// KeepPending leaves a push that waits for a verdict waiting.
	KeepPending bool
	// ReadTime is when reading the evidence from the registry began; zero if it is
	// recorded evidence.
	ReadTime time.Time
	// LacksEvidence says that required evidence is missing, so that it is looked for.
	LacksEvidence bool
	// Platforms are the digests of the manifests that were judged.
	Platforms []string
	// Evidence is what the reports said that it was made from, by digest of the platform
	// manifest; nil if it was not made from evidence that was read for it.
	Evidence map[string]Judged
	// Overdue says that it is UNKNOWN because evidence is overdue. Any other verdict is
	// an OverdueError then.
	Overdue bool
	// Patience is when evidence becomes overdue if a later report waits.
	Patience time.Duration
	// Quiet stores the change without telling subscribers. Of a later change they are
	// told what is new to them.
	Quiet bool
	// Replace stores it also if the newest one says the same, which rests on evidence that
	// is not trusted any more. Subscribers are not told then.
	Replace bool
	// Documents are what it was made from; those that are there stay as they are.
	Documents []record.Document
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
	// Record has as PreviousState what subscribers were told before.
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
