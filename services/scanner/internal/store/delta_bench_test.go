package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

const (
	benchImages = 100_000
	// benchPackages are in every image; benchNames are what they are taken from.
	benchPackages = 20
	benchNames    = 2_000
	// benchDelta is the number of advisories that changed, each about another package.
	benchDelta = 100
)

// BenchmarkDelta puts a snapshot in use in which 100 advisories changed, with 100,000
// stored inventories: what it takes to find the images that have to be matched again
// and to ask for them. Each package is in one of a hundred images, and every image has
// one of the changed ones, so that all are touched: the worst case. bare is to read the
// images of the same packages by the index.
func BenchmarkDelta(b *testing.B) {
	for name, config := range map[string]func(testing.TB) sqldb.Config{"sqlite": sqldbtest.SQLite, "postgres": sqldbtest.Postgres} {
		b.Run(name, func(b *testing.B) {
			db, err := sqldb.Open(b.Context(), config(b), "scanner")
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			if err := db.Migrate(b.Context(), store.Migrations()); err != nil {
				b.Fatal(err)
			}
			fill(b, db)
			s, err := store.New(db)
			if err != nil {
				b.Fatal(err)
			}
			var keys []core.PackageKey
			for i := range benchDelta {
				keys = append(keys, core.PackageKey{Ecosystem: "Debian", Name: fmt.Sprintf("package-%d", i*benchNames/benchDelta)})
			}
			start := time.Now()
			touched, err := s.ImagesWith(b.Context(), keys, "", benchImages)
			if err != nil {
				b.Fatal(err)
			}
			bare := time.Since(start)
			last := "s0"
			for n := 1; b.Loop(); n++ {
				next := fmt.Sprintf("s%d", n)
				if err := s.SetSnapshot(b.Context(), store.StoredSnapshot{Digest: next, Base: last, Changed: keys}); err != nil {
					b.Fatal(err)
				}
				last = next
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(bare), "x-bare")
			b.ReportMetric(float64(len(touched)), "images")
		})
	}
}

// fill stores the inventories, by the database's own means: through the store it would
// take longer than all else.
func fill(b *testing.B, db *sqldb.DB) {
	b.Helper()
	images := `WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n < ` + fmt.Sprint(benchImages-1) + `) `
	packages := `p(m) AS (SELECT 0 UNION ALL SELECT m + 1 FROM p WHERE m < ` + fmt.Sprint(benchPackages-1) + `) `
	digest := `'sha256:' || (1000000 + i.n)`
	err := db.InTx(context.WithoutCancel(b.Context()), func(tx *sql.Tx) error {
		for _, statement := range []string{
			`DELETE FROM rematches`, `DELETE FROM inventory_packages`, `DELETE FROM inventories`,
			`DELETE FROM current_snapshot`, `DELETE FROM snapshots`,
			`INSERT INTO snapshots (digest, advisory_count, create_time) VALUES ('s0', 1, 0)`,
			`INSERT INTO current_snapshot (id, digest) VALUES (1, 's0')`,
			`INSERT INTO reports (digest, image_digest, snapshot_digest, scanner_version, os, architecture, variant, content, create_time)
				VALUES ('bench', 'bench', 's0', '1', '', '', '', '', 0) ON CONFLICT DO NOTHING`,
			`INSERT INTO inventories (image_digest, report_digest, problems) ` + images + `SELECT ` + digest + `, 'bench', '' FROM i`,
			`INSERT INTO inventory_packages (ecosystem, name, image_digest) ` + strings.TrimSuffix(images, " ") + `, ` + packages +
				`SELECT 'Debian', 'package-' || ((i.n * 31 + p.m * 97) % ` + fmt.Sprint(benchNames) + `), ` + digest + ` FROM i, p WHERE true ON CONFLICT DO NOTHING`,
		} {
			if _, err := tx.ExecContext(b.Context(), statement); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
