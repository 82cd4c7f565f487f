// Package store keeps scans, reports, tags and the advisory snapshot. Store is
// the interface; New implements it on SQLite and PostgreSQL with one SQL text.
// storetest holds the conformance suite that both pass.
package store

import (
	"context"
	"errors"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// ErrNotFound says that there is no such row.
var ErrNotFound = errors.New("not found")

// State is the state of a scan; the numbers are those of
// seaworthy.scanner.v1.Scan.State.
type State int64

// The states of a scan.
const (
	Queued    State = 1
	Running   State = 2
	Succeeded State = 3
	Failed    State = 4
)

// Ended tells whether the scan will not change by itself any more.
func (s State) Ended() bool { return s == Succeeded || s == Failed }

// Scan is one scan of an image.
type Scan struct {
	ID string
	// Image has a digest once it is resolved.
	Image        imageref.Ref
	State        State
	ErrorReason  string
	ErrorMessage string
	TraceID      string
	CreateTime   time.Time
	EndTime      time.Time
	// Reports are the reports of its platforms, in the order of the index. Only
	// for a scan that succeeded.
	Reports []core.ReportRef
}

// Store keeps what the scanner knows. Every method is atomic.
type Store interface {
	// CreateScan stores a scan unless there is one with its id, and returns what is
	// stored then.
	CreateScan(ctx context.Context, s Scan) (Scan, error)
	// StartScan marks a scan as running with the resolved digest, unless it has
	// succeeded. A scan that failed is started again.
	StartScan(ctx context.Context, id, digest string) error
	// FinishScan marks a scan as succeeded, links its reports and remembers what
	// the tag meant. Of two scans of a tag the one created last decides.
	FinishScan(ctx context.Context, id string, reports []core.ReportRef, end time.Time) error
	// FailScan marks a scan as failed, unless it has succeeded.
	FailScan(ctx context.Context, id, reason, message string, end time.Time) error
	// Scan returns a scan by id, or ErrNotFound.
	Scan(ctx context.Context, id string) (Scan, error)
	// NewestScan returns the newest scan of an image by digest: of the digest
	// itself, else of an index it is a platform of. With finished only those that
	// succeeded count. ErrNotFound if there is none.
	NewestScan(ctx context.Context, image imageref.Ref, finished bool) (Scan, error)
	// TagDigest returns the digest a tag had when it was last scanned, or
	// ErrNotFound.
	TagDigest(ctx context.Context, image imageref.Ref) (string, error)

	// TagScans returns the newest scan of each tag of a repository that was scanned,
	// whatever became of it.
	TagScans(ctx context.Context, repository imageref.Ref, tags []string) (map[string]TagScan, error)
	// ScannedDigests returns the digests, in order after the given one, of at most n
	// images of a repository that were scanned with success and that nobody was told
	// are absent.
	ScannedDigests(ctx context.Context, repository imageref.Ref, after string, n int) ([]string, error)
	// ScannedRepositories returns at most n repositories of a registry, in order.
	ScannedRepositories(ctx context.Context, registry string, n int) ([]string, error)
	// Absences returns what is known of images, by digest, that their repository does
	// not have any more; SetAbsence and ClearAbsence change it.
	Absences(ctx context.Context, repository imageref.Ref, digests []string) (map[string]Absence, error)
	SetAbsence(ctx context.Context, image imageref.Ref, a Absence) error
	ClearAbsence(ctx context.Context, image imageref.Ref) error
	// Reconciled returns when a registry was last compared with the scans; zero if it
	// never was. SetReconciled sets it.
	Reconciled(ctx context.Context, registry string) (time.Time, error)
	SetReconciled(ctx context.Context, registry string, end time.Time) error

	// FindReport returns the report of an image made with a snapshot by a version
	// of the scanner.
	FindReport(ctx context.Context, imageDigest, snapshotDigest, scannerVersion string) (core.ReportRef, bool, error)
	// PutReport stores the canonical form of a report. If there is one for the same
	// image, snapshot and version, that one stays, and its reference is returned.
	PutReport(ctx context.Context, r StoredReport) (core.ReportRef, error)
	// FirstReportTime returns when a version of the scanner first made a report of an
	// image, or ErrNotFound.
	FirstReportTime(ctx context.Context, imageDigest, scannerVersion string) (time.Time, error)
	// Report returns the canonical form of a report by its digest, or ErrNotFound.
	Report(ctx context.Context, digest string) ([]byte, error)

	// LeaseRematches takes images to match again from the queue, until a time; at
	// most n.
	LeaseRematches(ctx context.Context, now, until time.Time, n int) ([]Rematch, error)
	// EndRematch takes an image out of the queue, unless another snapshot asked for
	// it meanwhile.
	EndRematch(ctx context.Context, r Rematch) error
	// Inventory returns what is known of an image's packages, or ErrNotFound.
	Inventory(ctx context.Context, imageDigest string) (Inventory, error)
	// ImagesWith returns the digests, in order from the given one on, of at most n
	// images that have a package with one of the keys.
	ImagesWith(ctx context.Context, keys []core.PackageKey, from string, n int) ([]string, error)
	// OldInventories returns the digests, in order after the given one, of at most n
	// images that the release before indexed.
	OldInventories(ctx context.Context, after string, n int) ([]string, error)
	// Reindex makes the packages the ones that an image is found by, unless a report
	// is the newest of it that is not the one they were read from.
	Reindex(ctx context.Context, imageDigest, reportDigest string, packages []core.IndexedPackage) error
	// PruneIndex removes at most n sets of packages that no image has any more, with
	// the packages that only they had. It returns how many sets were removed.
	PruneIndex(ctx context.Context, n int) (int64, error)
	// Places returns what was scanned with success under which name and turned out
	// to be the image, or to have it as a platform: references with the digest that
	// was scanned, in order.
	Places(ctx context.Context, imageDigest string) ([]imageref.Ref, error)

	// Layer returns what a version of the set of extractors found in a layer, or
	// ErrNotFound.
	Layer(ctx context.Context, digest, extractors string) ([]byte, error)
	// PutLayer stores it, in place of what is there.
	PutLayer(ctx context.Context, digest, extractors string, content []byte, now time.Time) error
	// PruneLayers removes what was stored before a time and found by another version of
	// the set of extractors, or in layers that no scanned image has. It returns how many
	// were removed.
	PruneLayers(ctx context.Context, extractors string, before time.Time) (int64, error)
	// Base returns what an image was built on. It is decided the first time: claim says
	// what the image claims, which may be nothing; the image whose layers are the longest
	// proper prefix of the layers counts otherwise.
	Base(ctx context.Context, imageDigest string, layers []string, claim core.BaseImage, now time.Time) (core.BaseImage, error)

	// CurrentSnapshot returns the digest of the snapshot in use, or ErrNotFound.
	CurrentSnapshot(ctx context.Context) (string, error)
	// Snapshot returns the bytes of a snapshot that an earlier release stored, or
	// ErrNotFound.
	Snapshot(ctx context.Context, digest string) ([]byte, error)
	// Feeds returns what is known of the feeds, by name; SetFeeds replaces it.
	Feeds(ctx context.Context) ([]Feed, error)
	SetFeeds(ctx context.Context, feeds []Feed) error

	// ScoreTimes are when the lists of scores in use were made, by the name of the list;
	// a list that does not say is not in it.
	ScoreTimes(ctx context.Context) (map[string]time.Time, error)

	// SetSnapshot stores a snapshot and makes it the one in use; others are removed.
	SetSnapshot(ctx context.Context, s StoredSnapshot) error
	// SeedSnapshot is SetSnapshot if there is none in use yet. It tells whether it
	// did anything.
	SeedSnapshot(ctx context.Context, s StoredSnapshot) (bool, error)
}

// StoredReport is a report as it is stored.
type StoredReport struct {
	Ref            core.ReportRef
	SnapshotDigest string
	ScannerVersion string
	// Content is the canonical form.
	Content []byte
	Time    time.Time
	// Packages are what the image is found by; nil if they are those that are stored
	// of it.
	Packages []core.IndexedPackage
	// Problems are those of the inventory alone.
	Problems []string
}

// Rematch is an image to match again.
type Rematch struct {
	ImageDigest string
	round       int64
}

// Inventory is what is known of an image's packages: they are those of the report.
type Inventory struct {
	ReportDigest string
	// Problems are those of the inventory alone.
	Problems []string
}

// StoredSnapshot is a snapshot as it is stored.
type StoredSnapshot struct {
	Digest string
	Count  int64
	// Content was stored by earlier releases; now it is a file.
	Content []byte
	Time    time.Time
	// Base is the digest of the snapshot that it was compared with; Changed are the
	// packages whose findings can differ. When another one is in use, every image is
	// matched again.
	Base       string
	Changed    []core.PackageKey
	ChangedAll bool
	// ChangedEcosystems are those that only one of the two snapshots covers, without a
	// release: reports about their packages change even if no finding does.
	ChangedEcosystems []string
	// Differs tells of a version of a changed package whether its findings differ; nil
	// if all do. It may be called more than once.
	Differs func(v core.PackageVersion) bool
	// ScoreTimes are those of the lists of scores that it was made with; others stay.
	ScoreTimes map[string]time.Time
}
