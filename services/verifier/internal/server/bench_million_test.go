package server_test

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
)

// envVerdicts names the number of stored verdicts of BenchmarkColdRead, for example
// 1000000; that takes some gigabytes and minutes. Unset, there are few.
const envVerdicts = "SEAWORTHY_BENCH_VERDICTS"

// BenchmarkColdRead reads verdicts that are not in memory, compared with the bare
// query, and says how long a start takes and what memory it needs.
func BenchmarkColdRead(b *testing.B) {
	count := 10_000
	if v := os.Getenv(envVerdicts); v != "" {
		var err error
		if count, err = strconv.Atoi(v); err != nil {
			b.Fatal(err)
		}
	}
	cfg := sqldbtest.SQLite(b)
	fill(b, cfg, count)

	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	db, err := sqldb.Open(b.Context(), cfg, "verifier")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(b.Context(), store.Migrations()); err != nil {
		b.Fatal(err)
	}
	s := &serving{b: b, db: db, store: store.New(db)}
	s.serve()
	if _, err := s.client.GetVerdict(b.Context(), &verifierv1.GetVerdictRequest{Image: &typev1.ImageRef{Digest: benchImage(0).Digest}}); err != nil {
		b.Fatal(err)
	}
	started := time.Since(began)

	var cold, bare []time.Duration
	b.ResetTimer()
	for range b.N {
		n := rand.N(count)
		i := benchImage(n)
		t := time.Now()
		found, err := s.store.Lookup(b.Context(), []imageref.Ref{i}, t)
		if err != nil || found[0] == nil {
			b.Fatal(found, err)
		}
		cold = append(cold, time.Since(t))
		i = benchImage(rand.N(count))
		t = time.Now()
		var body []byte
		err = db.QueryRowContext(b.Context(), `SELECT v.body FROM images i JOIN verdicts v ON v.sequence = i.sequence
			WHERE i.registry = $1 AND i.repository = $2 AND i.digest = $3`, i.Registry, i.Repository, i.Digest).Scan(&body)
		if err != nil {
			b.Fatal(err)
		}
		bare = append(bare, time.Since(t))
	}
	b.StopTimer()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(count), "verdicts")
	b.ReportMetric(started.Seconds(), "s-start")
	b.ReportMetric(float64(p99(cold))/float64(p99(bare)), "x-bare-p99")
	b.ReportMetric(float64(p99(cold).Microseconds()), "us-p99")
	b.ReportMetric(float64(int64(after.HeapInuse)-int64(before.HeapInuse))/(1<<20), "MiB-heap")
}

// fill stores verdicts, many in a transaction.
func fill(b *testing.B, cfg sqldb.Config, count int) {
	b.Helper()
	db, err := sqldb.Open(b.Context(), cfg, "verifier")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(b.Context(), store.Migrations()); err != nil {
		b.Fatal(err)
	}
	m, err := verdictpb.FromCore(verdictOf(benchImage(0)))
	if err != nil {
		b.Fatal(err)
	}
	body, err := verdictpb.Encode(m)
	if err != nil {
		b.Fatal(err)
	}
	const batch = 20_000
	for from := 0; from < count; from += batch {
		err := db.InTx(b.Context(), func(tx *sql.Tx) error { return insert(b.Context(), tx, from, min(from+batch, count), body) })
		if err != nil {
			b.Fatal(err)
		}
	}
}

func insert(ctx context.Context, tx *sql.Tx, from, to int, body []byte) error {
	verdicts, err := tx.PrepareContext(ctx, `INSERT INTO verdicts (sequence, registry, repository, digest, state, previous_state,
		verdict_digest, change_key, trace_id, create_time, body) VALUES ($1, $2, $3, $4, 1, 0, $5, $5, '', 1, $6)`)
	if err != nil {
		return err
	}
	defer verdicts.Close()
	images, err := tx.PrepareContext(ctx, `INSERT INTO images (registry, repository, digest, sequence, state, verdict_time, expire_time, pending_time)
		VALUES ($1, $2, $3, $4, $5, 1, 0, 0)`)
	if err != nil {
		return err
	}
	defer images.Close()
	for n := from; n < to; n++ {
		i := benchImage(n)
		if _, err := verdicts.ExecContext(ctx, n+1, i.Registry, i.Repository, i.Digest, "sha256:"+strconv.Itoa(n), body); err != nil {
			return err
		}
		if _, err := images.ExecContext(ctx, i.Registry, i.Repository, i.Digest, n+1, int64(core.StatePass)); err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, `UPDATE counters SET value = $1 WHERE name = 'verdict'`, to)
	return err
}
