// Package archive stores reports in their canonical form and reads them back.
package archive

import (
	"context"
	"fmt"
	"time"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/wire"
)

// Archive is a core.Archive on a store.
type Archive struct {
	store store.Store
	now   func() time.Time
}

// New returns an archive.
func New(s store.Store, now func() time.Time) *Archive { return &Archive{store: s, now: now} }

// Find implements core.Archive.
func (a *Archive) Find(ctx context.Context, imageDigest, snapshotDigest, scannerVersion string) (core.ReportRef, bool, error) {
	return a.store.FindReport(ctx, imageDigest, snapshotDigest, scannerVersion)
}

// Save implements core.Archive.
func (a *Archive) Save(ctx context.Context, r *core.Report) (core.ReportRef, error) {
	m := wire.Report(r)
	content, digest, err := wire.Canonical(m)
	if err != nil {
		return core.ReportRef{}, err
	}
	said, err := events.ContentDigest(m)
	if err != nil {
		return core.ReportRef{}, err
	}
	return a.store.PutReport(ctx, store.StoredReport{
		Ref:            core.ReportRef{ImageDigest: r.ImageDigest, Platform: r.Platform, ReportDigest: digest, ContentDigest: said},
		SnapshotDigest: r.Snapshot.Digest, ScannerVersion: r.ScannerVersion,
		Content: content, Time: a.now(),
		Packages: advisory.Index(r.Packages), Problems: r.InventoryProblems,
	})
}

// Report reads a report by its digest.
func (a *Archive) Report(ctx context.Context, digest string) (*scannerv1.Report, error) {
	content, err := a.store.Report(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("report %s: %w", digest, err)
	}
	return wire.Parse(content)
}
