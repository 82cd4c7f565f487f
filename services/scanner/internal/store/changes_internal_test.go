package store

import (
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// TestAskSets: the images of sets are asked for once each, and those that are in the
// queue already again.
func TestAskSets(t *testing.T) {
	sqldbtest.Run(t, "scanner", Migrations(), func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		ctx := t.Context()
		s, err := New(db)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for i := range 300 {
			image := fmt.Sprintf("i%03d", i)
			if i%3 != 0 {
				want = append(want, image)
			}
			var packages []core.IndexedPackage
			for layer := range 2 {
				packages = append(packages, core.IndexedPackage{
					PackageVersion: core.PackageVersion{Name: fmt.Sprint("p", layer), Version: fmt.Sprint(i % 3)}, Layer: fmt.Sprint(layer),
				})
			}
			_, err := s.PutReport(ctx, StoredReport{
				Ref: core.ReportRef{ImageDigest: image, ReportDigest: "r" + image}, SnapshotDigest: "s", Packages: packages,
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for round := range int64(2) {
			err := db.InTx(ctx, func(tx *sql.Tx) error {
				// The sets of the images whose number is not a multiple of three.
				sets, err := setsWith(ctx, tx, []int64{3, 4, 5, 6})
				if err != nil {
					return err
				}
				if len(sets) != 4 {
					t.Errorf("%d sets", len(sets))
				}
				return askSets(ctx, tx, sets)
			})
			if err != nil {
				t.Fatal(err)
			}
			work, err := s.LeaseRematches(ctx, time.Unix(round+1, 0), time.Unix(round+100, 0), 1000)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, w := range work {
				got = append(got, w.ImageDigest)
				if w.round != round {
					t.Errorf("%s is asked for %d times", w.ImageDigest, w.round+1)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%d images, want %d: %v", len(got), len(want), got)
			}
		}
	})
}
