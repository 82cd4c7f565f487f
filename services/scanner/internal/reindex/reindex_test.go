package reindex_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/archive"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/reindex"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// failing cannot read one report.
type failing struct {
	reindex.Reports
	digest string
}

func (f *failing) Report(ctx context.Context, digest string) (*scannerv1.Report, error) {
	if digest == f.digest {
		return nil, errors.New("damaged")
	}
	return f.Reports.Report(ctx, digest)
}

// TestAll: images in the old index come to be in the new one, with the versions of
// their packages; one whose report cannot be read stays where it is.
func TestAll(t *testing.T) {
	sqldbtest.Run(t, "scanner", store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		ctx := t.Context()
		s, err := store.New(db)
		if err != nil {
			t.Fatal(err)
		}
		a := archive.New(s, time.Now)
		var images []string
		var broken core.ReportRef
		for i := range 120 {
			image := fmt.Sprintf("sha256:%064d", i)
			images = append(images, image)
			broken, err = a.Save(ctx, &core.Report{
				ImageDigest: image, ScannerVersion: "1", Snapshot: core.SnapshotInfo{Digest: "s"},
				Packages: []core.Package{{Name: "p", Version: fmt.Sprint(i % 2), Ecosystem: "npm", PURL: "pkg:npm/p", Location: "x", LayerDigest: "l"}},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		// As the release before left them.
		for _, statement := range []string{
			`DELETE FROM inventory_sets`, `DELETE FROM package_sets`, `DELETE FROM package_blocks`, `DELETE FROM packages`,
			`INSERT INTO inventory_packages (ecosystem, name, image_digest) SELECT 'npm', 'p', image_digest FROM inventories`,
		} {
			if _, err := db.ExecContext(ctx, statement); err != nil {
				t.Fatal(err)
			}
		}
		reports := &failing{Reports: a, digest: broken.ReportDigest}
		r := &reindex.Reindexer{Store: s, Reports: reports, Log: slog.New(slog.DiscardHandler)}
		for _, left := range [][]string{images[119:], nil} {
			if err := r.All(ctx); err != nil {
				t.Fatal(err)
			}
			got, err := s.OldInventories(ctx, "", 1000)
			if err != nil || !slices.Equal(got, left) {
				t.Errorf("left %v, %v; want %v", got, err, left)
			}
			got, err = s.ImagesWith(ctx, []core.PackageKey{{Ecosystem: "npm", Name: "p"}}, "", 1000)
			if err != nil || !slices.Equal(got, images) {
				t.Errorf("%d images found, %v", len(got), err)
			}
			reports.digest = ""
		}
		err = s.SetSnapshot(ctx, store.StoredSnapshot{
			Digest: "s2", Changed: []core.PackageKey{{Ecosystem: "npm", Name: "p"}},
			Differs: func(v core.PackageVersion) bool { return v.Version == "1" },
		})
		if err != nil {
			t.Fatal(err)
		}
		work, err := s.LeaseRematches(ctx, time.Unix(1, 0), time.Unix(2, 0), 1000)
		if err != nil || len(work) != 60 {
			t.Errorf("%d images of the version asked for, want 60; %v", len(work), err)
		}
	})
}

// none has nothing in its old index.
type none struct {
	store.Store
	asked int
	err   error
}

func (n *none) OldInventories(context.Context, string, int) ([]string, error) {
	n.asked++
	return nil, n.err
}

// TestRun: it looks again at every interval, whatever happens, and ends with ctx.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &none{err: errors.New("down")}
		done := make(chan error)
		go func() {
			done <- (&reindex.Reindexer{Store: s, Log: slog.New(slog.DiscardHandler)}).Run(ctx, time.Hour)
		}()
		time.Sleep(150 * time.Minute)
		cancel()
		if err := <-done; err != nil || s.asked != 3 {
			t.Errorf("%v, looked %d times", err, s.asked)
		}
	})
}
