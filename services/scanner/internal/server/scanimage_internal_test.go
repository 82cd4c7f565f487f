package server

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

// idle resolves every tag to one digest and counts what is published, which nobody scans.
type idle struct{ published int }

func (*idle) Resolve(context.Context, imageref.Ref) (string, *core.Manifest, error) {
	return "sha256:" + strings.Repeat("a", 64), &core.Manifest{}, nil
}

func (*idle) PublishAdvisories(context.Context, string, *eventv1.AdvisoriesUpdatedEvent) error {
	return nil
}

func (i *idle) PublishPushed(context.Context, string, *eventv1.ImagePushedEvent) error {
	i.published++
	return nil
}

// TestScanImage_flood: however often a caller asks for an image, one scan waits, and its
// requests are bounded.
func TestScanImage_flood(t *testing.T) {
	db, err := sqldb.Open(t.Context(), sqldbtest.SQLite(t), "scanner")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(t.Context(), store.Migrations()); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	scans, err := store.New(db)
	if err != nil {
		t.Fatal(err)
	}
	fleet := &idle{}
	s := &scanner{Deps: Deps{Store: scans, Resolver: fleet, Publisher: fleet, Now: func() time.Time { return now }}}
	ask := func(tag, requestID string) (*scannerv1.ScanImageResponse, error) {
		return s.ScanImage(t.Context(), &scannerv1.ScanImageRequest{
			Image: &typev1.ImageRef{Registry: "registry.example", Repository: "team/app", Tag: tag}, RequestId: requestID,
		})
	}
	const own = "6f1e7a52-3c7c-4b0e-9a3c-0d6f3f1c2b4a"
	first, err := ask("v1", own)
	if err != nil {
		t.Fatal(err)
	}
	for range scanBurst - 3 {
		again, err := ask("v1", "")
		if err != nil || again.GetScan().GetScanId() != first.GetScan().GetScanId() {
			t.Fatalf("%v, %v", again, err)
		}
	}
	if fleet.published != 1 {
		t.Errorf("%d scans published", fleet.published)
	}
	// Another tag has a meaning of its own, and a repeated request is published again.
	if _, err := ask("v2", ""); err != nil || fleet.published != 2 {
		t.Errorf("another tag: %v, %d published", err, fleet.published)
	}
	if again, err := ask("v1", own); err != nil || fleet.published != 3 || again.GetScan().GetScanId() != first.GetScan().GetScanId() {
		t.Errorf("repeated: %v, %v, %d published", again, err, fleet.published)
	}
	if _, err := ask("v1", ""); apierr.From(err).Code() != codes.ResourceExhausted || !apierr.HasReason(err, "TOO_MANY_SCANS") {
		t.Errorf("over the limit: %v", err)
	}
	// One that has waited for long may be lost.
	now = now.Add(queuedAge)
	if again, err := ask("v1", ""); err != nil || again.GetScan().GetScanId() == first.GetScan().GetScanId() {
		t.Errorf("after %v: %v, %v", queuedAge, again, err)
	}
}

func TestCallerLimits(t *testing.T) {
	var l callerLimits
	now := time.Now()
	for range scanBurst {
		if wait := l.reserve("a", now); wait > 0 {
			t.Fatalf("has to wait %v within the burst", wait)
		}
	}
	if wait := l.reserve("a", now); wait != time.Second/scansPerSecond {
		t.Errorf("has to wait %v", wait)
	}
	if wait := l.reserve("b", now); wait > 0 {
		t.Errorf("another caller has to wait %v", wait)
	}
	if wait := l.reserve("a", now.Add(time.Second/scansPerSecond)); wait > 0 {
		t.Errorf("has to wait %v after its time", wait)
	}
}
