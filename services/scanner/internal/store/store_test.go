package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store/storetest"
)

func TestConformance(t *testing.T) {
	// The suite opens a store a test; each engine gives it a fresh schema.
	for _, name := range storetest.Names() {
		t.Run(name, func(t *testing.T) {
			sqldbtest.Run(t, "scanner", store.Migrations(), func(t *testing.T, db *sqldb.DB) {
				t.Helper()
				s, err := store.New(db)
				if err != nil {
					t.Fatal(err)
				}
				storetest.One(t, name, s)
				if name != "package sets" {
					return
				}
				// Nobody has any of it any more.
				for _, table := range []string{"package_sets", "package_blocks", "packages"} {
					if n := count(t, db, table); n != 0 {
						t.Errorf("%d rows left in %s", n, table)
					}
				}
			})
		})
	}
}

func count(t *testing.T, db *sqldb.DB, table string) (n int64) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM `+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSpread: packages that are in very many blocks are searched for in another way.
func TestSpread(t *testing.T) {
	sqldbtest.Run(t, "scanner", store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		s, err := store.New(db)
		if err != nil {
			t.Fatal(err)
		}
		storetest.Spread(t, s, func() {
			if _, err := db.ExecContext(t.Context(), `UPDATE index_ids SET last = last + 64 WHERE name = 'package_sets'`); err != nil {
				t.Fatal(err)
			}
		})
	})
}

// TestOldIndex: images that the release before indexed are found by its index until
// they are in the new one, which forgets nothing that came meanwhile.
func TestOldIndex(t *testing.T) {
	sqldbtest.Run(t, "scanner", store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		s, err := store.New(db)
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		key := core.PackageKey{Ecosystem: "npm", Name: "p"}
		found := func(want ...string) {
			t.Helper()
			got, err := s.ImagesWith(ctx, []core.PackageKey{key}, "", 10)
			check(err)
			if !slices.Equal(got, want) {
				t.Errorf("images %v, want %v", got, want)
			}
		}
		old := func(want ...string) {
			t.Helper()
			got, err := s.OldInventories(ctx, "", 10)
			check(err)
			if !slices.Equal(got, want) {
				t.Errorf("old inventories %v, want %v", got, want)
			}
		}
		packages := []core.IndexedPackage{{PackageVersion: core.PackageVersion{Ecosystem: "npm", Name: "p", Version: "1"}, Base: "npm", OwnName: "p"}}
		put := func(image, report string, packages []core.IndexedPackage) {
			t.Helper()
			_, err := s.PutReport(ctx, store.StoredReport{
				Ref: core.ReportRef{ImageDigest: image, ReportDigest: report}, SnapshotDigest: report, ScannerVersion: "1", Packages: packages,
			})
			check(err)
		}
		check(s.SetSnapshot(ctx, store.StoredSnapshot{Digest: "s1"}))
		for _, image := range []string{"i1", "i2", "i3"} {
			put(image, "r"+image, nil)
			_, err := db.ExecContext(ctx, `INSERT INTO inventory_packages (ecosystem, name, image_digest) VALUES ('npm', 'p', $1)`, image)
			check(err)
		}
		found("i1", "i2", "i3")
		old("i1", "i2", "i3")
		put("i1", "newer", packages)
		old("i2", "i3")
		// The versions of an old inventory are not known: it is asked for.
		check(s.SetSnapshot(ctx, store.StoredSnapshot{
			Digest: "s2", Base: "s1", Changed: []core.PackageKey{key}, Differs: func(core.PackageVersion) bool { return false },
		}))
		work, err := s.LeaseRematches(ctx, time.Unix(1, 0), time.Unix(2, 0), 10)
		check(err)
		if len(work) != 2 {
			t.Errorf("%d images asked for, want 2", len(work))
		}
		check(s.Reindex(ctx, "i2", "ri2", packages))
		check(s.Reindex(ctx, "i3", "not the newest", nil))
		check(s.Reindex(ctx, "none", "r", packages))
		old("i3")
		check(s.Reindex(ctx, "i3", "ri3", []core.IndexedPackage{}))
		old()
		found("i1", "i2")
		if n := count(t, db, "package_sets"); n != 1 {
			t.Errorf("%d sets for two images with the same packages", n)
		}
	})
}
