package store

import (
	"archive/zip"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/extract"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/layertest"
)

const (
	benchImages = 100_000
	// benchDelta is the number of advisories that changed.
	benchDelta = 100
	// checked is how many images are matched whole with both snapshots, to see that the
	// list is right.
	checked = 400
)

// BenchmarkDelta is the time from a snapshot in which 100 real advisories changed, all
// about packages that inventories have, to the complete and durable list of images whose
// findings changed, with 100,000 stored inventories. They are made from four real
// package databases: of each a random twentieth of the packages is missing, and a tenth
// in another version that some advisory names as fixed, so that hardly two images have
// one set. bare is to read all sets and the images that have them.
func BenchmarkDelta(b *testing.B) {
	dir := os.Getenv("SEAWORTHY_TESTDATA")
	if dir == "" {
		dir = "../../../../../shared/data"
	}
	if _, err := os.Stat(filepath.Join(dir, "osv")); err != nil {
		b.Skipf("no real advisories in %s; set SEAWORTHY_TESTDATA", dir)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	bases := make([][]core.Package, 0, 4)
	for _, name := range []string{"alpine-3.16.0-base", "alpine-3.16.0-server", "debian-11.11-minbase", "debian-12.15-minbase"} {
		bases = append(bases, extracted(b, filepath.Join(dir, "packages", name)))
	}
	old, now := benchSnapshots(b, dir, bases, rng)
	generated := generate(b, bases, old, rng)
	for name, config := range map[string]func(testing.TB) sqldb.Config{"sqlite": sqldbtest.SQLite, "postgres": sqldbtest.Postgres} {
		b.Run(name, func(b *testing.B) { benchDeltaOn(b, config(b), old, now, generated) })
	}
}

// extracted are the packages of a database.
func extracted(b *testing.B, dir string) []core.Package {
	b.Helper()
	blobs := layertest.Store{}
	layer := blobs.Add(layertest.Gzip(b, layertest.Tar(b, layertest.Database(b, dir)...)))
	x, err := extract.New(blobs, extract.DefaultLimits(), 1)
	if err != nil {
		b.Fatal(err)
	}
	inv, err := x.Extract(b.Context(), imageref.Ref{}, []core.Descriptor{layer})
	if err != nil {
		b.Fatal(err)
	}
	return inv.Packages
}

func benchDeltaOn(b *testing.B, config sqldb.Config, old, now *advisory.Snapshot, generated [][]core.Package) {
	b.Helper()
	db, err := sqldb.Open(b.Context(), config, "scanner")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(b.Context(), Migrations()); err != nil {
		b.Fatal(err)
	}
	fill(b, db, old.Info().Digest, generated)
	s, err := New(db)
	if err != nil {
		b.Fatal(err)
	}
	bare := readAll(b, db)
	snapshots := []*advisory.Snapshot{old, now}
	var diff time.Duration
	judged, changed := 0, 0
	n := 0
	for b.Loop() {
		b.StopTimer()
		empty(b, db)
		from, to := snapshots[n%2], snapshots[(n+1)%2]
		n++
		b.StartTimer()
		start := time.Now()
		keys, err := advisory.Changed(from, to)
		if err != nil {
			b.Fatal(err)
		}
		diff += time.Since(start)
		differs := advisory.Differs(from, to)
		judged, changed = 0, 0
		err = s.SetSnapshot(b.Context(), StoredSnapshot{
			Digest: to.Info().Digest, Base: from.Info().Digest, Changed: keys,
			Differs: func(v core.PackageVersion) bool {
				d := differs(v)
				judged++
				if d {
					changed++
				}
				return d
			},
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	perOp := b.Elapsed() / time.Duration(n)
	b.ReportMetric(float64(perOp)/float64(bare), "x-bare")
	b.ReportMetric(float64(diff.Milliseconds())/float64(n), "ms-diff")
	b.ReportMetric(float64(judged), "versions-judged")
	b.ReportMetric(float64(changed), "versions-changed")
	b.ReportMetric(float64(checkList(b, db, old, now, generated)), "images-changed")
}

// checkList matches some images whole with both snapshots. It returns the length of
// the list.
func checkList(b *testing.B, db *sqldb.DB, old, now *advisory.Snapshot, generated [][]core.Package) int {
	b.Helper()
	rows, err := db.QueryContext(b.Context(), `SELECT image_digest FROM rematches`)
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	list := map[string]bool{}
	for rows.Next() {
		var image string
		if err := rows.Scan(&image); err != nil {
			b.Fatal(err)
		}
		list[image] = true
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
	for i := 0; i < len(generated); i += len(generated) / checked {
		before, _ := old.Match(generated[i])
		after, _ := now.Match(generated[i])
		a, errA := json.Marshal(before)
		c, errC := json.Marshal(after)
		if errA != nil || errC != nil || (string(a) != string(c)) != list[benchImage(i)] {
			b.Fatalf("image %d: findings changed %v, in the list %v", i, string(a) != string(c), list[benchImage(i)])
		}
	}
	return len(list)
}

func benchImage(i int) string { return fmt.Sprintf("sha256:%064x", uint64(i)*0x9e3779b97f4a7c15) }

// readAll is the bare limit.
func readAll(b *testing.B, db *sqldb.DB) time.Duration {
	b.Helper()
	start := time.Now()
	readRows(b, db, `SELECT id, packages FROM package_sets`)
	readRows(b, db, `SELECT set_id, image_digest FROM inventory_sets`)
	return time.Since(start)
}

func readRows(b *testing.B, db *sqldb.DB, query string) {
	b.Helper()
	rows, err := db.QueryContext(b.Context(), query)
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	var id int64
	var content sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&id, &content); err != nil {
			b.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
}

func empty(b *testing.B, db *sqldb.DB) {
	b.Helper()
	if _, err := db.ExecContext(b.Context(), `DELETE FROM rematches`); err != nil {
		b.Fatal(err)
	}
}

// fill stores the inventories by the means of the store, a thousand a transaction.
func fill(b *testing.B, db *sqldb.DB, snapshot string, generated [][]core.Package) {
	b.Helper()
	ctx := context.WithoutCancel(b.Context())
	err := db.InTx(ctx, func(tx *sql.Tx) error {
		for _, statement := range []string{
			`DELETE FROM rematches`, `DELETE FROM inventory_sets`, `DELETE FROM inventories`, `DELETE FROM package_sets`,
			`DELETE FROM package_blocks`, `DELETE FROM packages`, `DELETE FROM current_snapshot`, `DELETE FROM snapshots`,
			`INSERT INTO reports (digest, image_digest, snapshot_digest, scanner_version, os, architecture, variant, content, create_time)
				VALUES ('bench', 'bench', 's0', '1', '', '', '', '', 0) ON CONFLICT DO NOTHING`,
		} {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
		return setSnapshot(ctx, tx, StoredSnapshot{Digest: snapshot})
	})
	if err != nil {
		b.Fatal(err)
	}
	for first := 0; first < len(generated); first += 1000 {
		err := db.InTx(ctx, func(tx *sql.Tx) error {
			var inventories, links [][]any
			var all []*packageSet
			known := map[digest]*packageSet{}
			of := map[*packageSet][]string{}
			for i := first; i < min(first+1000, len(generated)); i++ {
				inventories = append(inventories, []any{benchImage(i), "bench", ""})
				for _, s := range setsOf(advisory.Index(generated[i])) {
					if known[s.digest] == nil {
						known[s.digest] = &s
						all = append(all, &s)
					}
					of[known[s.digest]] = append(of[known[s.digest]], benchImage(i))
				}
			}
			all, err := storedBefore(ctx, tx, all)
			if err != nil {
				return err
			}
			if err := newSets(ctx, tx, all); err != nil {
				return err
			}
			for s, images := range of {
				for _, image := range images {
					links = append(links, []any{s.id, image})
				}
			}
			if err := insert(ctx, tx, `inventories (image_digest, report_digest, problems)`, inventories); err != nil {
				return err
			}
			return insert(ctx, tx, `inventory_sets (set_id, image_digest)`, links)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// storedBefore gives the sets that are stored their ids, and returns the others.
func storedBefore(ctx context.Context, tx *sql.Tx, sets []*packageSet) ([]*packageSet, error) {
	digests := make([]any, len(sets))
	for i, s := range sets {
		digests[i] = s.digest[:]
	}
	known, err := idsByDigest(ctx, tx, `package_sets`, digests)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(sets, func(s *packageSet) bool { s.id = known[s.digest]; return s.id != 0 }), nil
}

// generate makes the inventories. Packages in another version are of another layer.
func generate(b *testing.B, bases [][]core.Package, s *advisory.Snapshot, rng *rand.Rand) [][]core.Package {
	b.Helper()
	records, err := s.Records()
	if err != nil {
		b.Fatal(err)
	}
	versions := map[string][]string{}
	for _, r := range records {
		for _, a := range r.Affected {
			for _, events := range a.Ranges {
				for _, e := range events {
					if e.Fixed != "" {
						versions[a.Ecosystem+" "+a.Name] = append(versions[a.Ecosystem+" "+a.Name], e.Fixed)
					}
				}
			}
		}
	}
	for k := range versions {
		slices.Sort(versions[k])
		versions[k] = slices.Compact(versions[k])
	}
	out := make([][]core.Package, benchImages)
	for i := range out {
		for _, p := range bases[i%len(bases)] {
			r := rng.IntN(100)
			others := versions[p.Ecosystem+" "+p.AdvisoryName()]
			switch {
			case r < 5:
				continue
			case r < 15 && len(others) > 0:
				p.Version, p.SourceVersion, p.LayerDigest = others[rng.IntN(len(others))], "", "updates"
			case r < 15:
				p.Version, p.SourceVersion, p.LayerDigest = fmt.Sprint(p.Version, "+", rng.IntN(5)), "", "updates"
			}
			out[i] = append(out[i], p)
		}
	}
	return out
}

// benchSnapshots are all advisories, and the same with changed ones: what is fixed in a
// version is so only in a later one.
func benchSnapshots(b *testing.B, dir string, bases [][]core.Package, rng *rand.Rand) (old, now *advisory.Snapshot) {
	b.Helper()
	wanted := map[core.PackageKey]bool{}
	for _, base := range bases {
		for _, p := range advisory.Index(base) {
			wanted[core.PackageKey{Ecosystem: p.Ecosystem, Name: p.Name}] = true
		}
	}
	var records [][]byte
	var about []int
	zips, err := filepath.Glob(filepath.Join(dir, "osv", "*", "all.zip"))
	if err != nil || len(zips) == 0 {
		b.Fatalf("no advisories: %v", err)
	}
	for _, path := range zips {
		zr, err := zip.OpenReader(path)
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range zr.File {
			r, err := f.Open()
			if err != nil {
				b.Fatal(err)
			}
			content, err := io.ReadAll(r)
			if err != nil {
				b.Fatal(err)
			}
			if speaksOf(content, wanted) {
				about = append(about, len(records))
			}
			records = append(records, content)
		}
		if err := zr.Close(); err != nil {
			b.Fatal(err)
		}
	}
	rng.Shuffle(len(about), func(i, j int) { about[i], about[j] = about[j], about[i] })
	changed := map[int]bool{}
	for _, i := range about[:benchDelta] {
		changed[i] = true
	}
	var out [2]*advisory.Snapshot
	for version := range out {
		builder := advisory.NewBuilder(1_000_000)
		for i, content := range records {
			if changed[i] && version == 1 {
				content = later(b, content)
			}
			_ = builder.Add("osv", content) // a few of them are refused
		}
		s, err := builder.Build()
		if err != nil {
			b.Fatal(err)
		}
		out[version] = s
	}
	return out[0], out[1]
}

type benchRecord struct {
	Affected []struct {
		Package struct{ Ecosystem, Name string }
		Ranges  []struct{ Events []map[string]string }
	}
}

func speaksOf(content []byte, wanted map[core.PackageKey]bool) bool {
	if !strings.Contains(string(content), `"Debian`) && !strings.Contains(string(content), `"Alpine`) {
		return false
	}
	var r benchRecord
	if err := json.Unmarshal(content, &r); err != nil {
		return false
	}
	for _, a := range r.Affected {
		for _, events := range a.Ranges {
			for _, e := range events.Events {
				if e["fixed"] != "" && wanted[core.PackageKey{Ecosystem: a.Package.Ecosystem, Name: a.Package.Name}] {
					return true
				}
			}
		}
	}
	return false
}

// later moves what a record names as fixed.
func later(b *testing.B, content []byte) []byte {
	b.Helper()
	var r map[string]any
	if err := json.Unmarshal(content, &r); err != nil {
		b.Fatal(err)
	}
	affected, _ := r["affected"].([]any)
	for _, a := range affected {
		ranges, _ := a.(map[string]any)["ranges"].([]any)
		for _, one := range ranges {
			events, _ := one.(map[string]any)["events"].([]any)
			for _, e := range events {
				if fixed, ok := e.(map[string]any)["fixed"].(string); ok {
					e.(map[string]any)["fixed"] = fixed + ".1"
				}
			}
		}
	}
	out, err := json.Marshal(r)
	if err != nil {
		b.Fatal(err)
	}
	return out
}
