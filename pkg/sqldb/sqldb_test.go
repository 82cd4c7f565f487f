package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var migrations = fstest.MapFS{
	"00001_things.sql": {Data: []byte(`-- +goose Up
CREATE TABLE things (
	id    TEXT PRIMARY KEY,
	n     BIGINT NOT NULL,
	data  BYTEA,
	ok    BOOLEAN NOT NULL DEFAULT FALSE,
	at    BIGINT NOT NULL DEFAULT 0
);
`)},
	"00002_parts.sql": {Data: []byte(`-- +goose Up
CREATE TABLE parts (
	thing TEXT NOT NULL REFERENCES things (id) ON DELETE CASCADE,
	name  TEXT NOT NULL,
	PRIMARY KEY (thing, name)
);
CREATE INDEX parts_by_name ON parts (name);
`)},
}

func TestOneSQLTextOnEveryEngine(t *testing.T) {
	sqldbtest.Run(t, "things", migrations, func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		ctx := t.Context()
		at := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
		// $1 twice and out of order; upsert; RETURNING.
		const upsert = `INSERT INTO things (id, n, data, ok, at) VALUES ($1, $3, $2, $4, $5)
			ON CONFLICT (id) DO UPDATE SET n = things.n + excluded.n, data = excluded.data
			WHERE things.id = $1 RETURNING n`
		for want := int64(7); want <= 14; want += 7 {
			var n int64
			if err := db.QueryRowContext(ctx, upsert, "a", []byte{0, 1, 0xff}, 7, true, sqldb.Time(at)).Scan(&n); err != nil || n != want {
				t.Fatalf("upsert: n = %d, %v; want %d", n, err, want)
			}
		}
		var (
			data []byte
			ok   bool
			ns   int64
		)
		if err := db.QueryRowContext(ctx, "SELECT data, ok, at FROM things WHERE id = $1", "a").Scan(&data, &ok, &ns); err != nil {
			t.Fatal(err)
		}
		if string(data) != "\x00\x01\xff" || !ok || !sqldb.FromTime(ns).Equal(at) {
			t.Errorf("read back %x %v %v", data, ok, sqldb.FromTime(ns))
		}
		if err := db.QueryRowContext(ctx, "SELECT n FROM things WHERE id = $1", "none").Scan(&ns); !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("missing row: %v", err)
		}
		_, err := db.ExecContext(ctx, "INSERT INTO things (id, n) VALUES ($1, $2)", "a", 1)
		if !sqldb.IsUniqueViolation(err) || sqldb.Retryable(err) {
			t.Errorf("second row with the key: %v", err)
		}
		if _, err := db.ExecContext(ctx, "INSERT INTO parts (thing, name) VALUES ($1, $2)", "none", "x"); err == nil || sqldb.IsUniqueViolation(err) {
			t.Errorf("foreign keys are off: %v", err)
		}
	})
}

func TestInTx(t *testing.T) {
	boom := errors.New("boom")
	sqldbtest.Run(t, "things", migrations, func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		insert := func(id string) func(*sql.Tx) error {
			return func(tx *sql.Tx) error {
				_, err := tx.ExecContext(t.Context(), "INSERT INTO things (id, n) VALUES ($1, 0)", id)
				return err
			}
		}
		if err := db.InTx(t.Context(), insert("kept")); err != nil {
			t.Fatal(err)
		}
		err := db.InTx(t.Context(), func(tx *sql.Tx) error {
			if err := insert("dropped")(tx); err != nil {
				return err
			}
			return boom
		})
		if !errors.Is(err, boom) {
			t.Errorf("InTx = %v", err)
		}
		func() {
			defer func() { _ = recover() }()
			_ = db.InTx(t.Context(), func(tx *sql.Tx) error {
				if err := insert("panicked")(tx); err != nil {
					return err
				}
				panic("boom")
			})
		}()
		var n int
		if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM things").Scan(&n); err != nil || n != 1 {
			t.Errorf("%d rows, %v; want the committed one only", n, err)
		}
	})
}

// TestInTxLosesNoUpdate: a transaction that reads, and writes by what it read, loses
// nothing with either of the two ways to lock.
func TestInTxLosesNoUpdate(t *testing.T) {
	t.Run("row", func(t *testing.T) {
		losesNoUpdate(t, func(t *testing.T, _ *sqldb.DB, tx *sql.Tx) (n int, err error) {
			t.Helper()
			err = tx.QueryRowContext(t.Context(), "UPDATE things SET n = n WHERE id = 'c' RETURNING n").Scan(&n)
			return n, err
		})
	})
	t.Run("name", func(t *testing.T) {
		losesNoUpdate(t, func(t *testing.T, db *sqldb.DB, tx *sql.Tx) (n int, err error) {
			t.Helper()
			if err := db.Lock(t.Context(), tx, "c"); err != nil {
				return 0, err
			}
			err = tx.QueryRowContext(t.Context(), "SELECT n FROM things WHERE id = 'c'").Scan(&n)
			return n, err
		})
	})
}

func losesNoUpdate(t *testing.T, read func(t *testing.T, db *sqldb.DB, tx *sql.Tx) (int, error)) {
	t.Helper()
	const workers, rounds = 4, 10
	sqldbtest.Run(t, "things", migrations, func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), "INSERT INTO things (id, n) VALUES ('c', 0)"); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range rounds {
					err := db.InTx(t.Context(), func(tx *sql.Tx) error {
						n, err := read(t, db, tx)
						if err != nil {
							return err
						}
						_, err = tx.ExecContext(t.Context(), "UPDATE things SET n = $1 WHERE id = 'c'", n+1)
						return err
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		var n int
		if err := db.QueryRowContext(t.Context(), "SELECT n FROM things WHERE id = 'c'").Scan(&n); err != nil || n != workers*rounds {
			t.Errorf("n = %d, %v; want %d", n, err, workers*rounds)
		}
	})
}

func TestInTxEndsWithItsContext(t *testing.T) {
	sqldbtest.Run(t, "things", migrations, func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := db.InTx(ctx, func(*sql.Tx) error { return errors.New("was run") })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("InTx = %v", err)
		}
	})
}

func TestReplicasMigrateAtTheSameTime(t *testing.T) {
	engines := map[string]func(*testing.T) (sqldb.Config, string){
		sqldb.SQLite: func(t *testing.T) (sqldb.Config, string) {
			t.Helper()
			return sqldbtest.SQLite(t), "things"
		},
		sqldb.Postgres: func(t *testing.T) (sqldb.Config, string) {
			t.Helper()
			cfg := sqldbtest.Postgres(t)
			name := "replicas_" + fmt.Sprint(time.Now().UnixNano()%1e9)
			t.Cleanup(func() { dropSchema(t, cfg, name) })
			return cfg, name
		},
	}
	for name, engine := range engines {
		t.Run(name, func(t *testing.T) {
			cfg, schema := engine(t)
			const replicas = 4
			var wg sync.WaitGroup
			for range replicas {
				wg.Go(func() {
					db, err := sqldb.Open(t.Context(), cfg, schema)
					if err != nil {
						t.Error(err)
						return
					}
					defer db.Close()
					if err := db.Migrate(t.Context(), migrations); err != nil {
						t.Error(err)
					}
					if _, err := db.ExecContext(t.Context(), "SELECT name FROM parts"); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		})
	}
}

func dropSchema(t *testing.T, cfg sqldb.Config, schema string) {
	t.Helper()
	db, err := sqldb.Open(context.WithoutCancel(t.Context()), cfg, schema)
	if err != nil {
		t.Error(err)
		return
	}
	defer db.Close()
	if _, err := db.ExecContext(context.WithoutCancel(t.Context()), "DROP SCHEMA "+pgx.Identifier{schema}.Sanitize()+" CASCADE"); err != nil {
		t.Error(err)
	}
}

func TestMigrateAgainAndAfterARollback(t *testing.T) {
	sqldbtest.Run(t, "things", migrations, func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		if err := db.Migrate(t.Context(), migrations); err != nil {
			t.Errorf("again: %v", err)
		}
		old := fstest.MapFS{"00001_things.sql": migrations["00001_things.sql"]}
		if err := db.Migrate(t.Context(), old); err != nil {
			t.Errorf("the release before, on the newer schema: %v", err)
		}
		if err := db.Migrate(t.Context(), fstest.MapFS{}); err != nil {
			t.Errorf("without migrations: %v", err)
		}
	})
}

func TestBrokenMigrationIsAnErrorAndRollsBack(t *testing.T) {
	broken := fstest.MapFS{"00001_x.sql": {Data: []byte("-- +goose Up\nCREATE TABLE x (id TEXT);\nCREATE TABLE oops (;\n")}}
	sqldbtest.Run(t, "things", nil, func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		if err := db.Migrate(t.Context(), broken); err == nil {
			t.Fatal("no error")
		}
		if _, err := db.ExecContext(t.Context(), "SELECT id FROM x"); err == nil {
			t.Error("half of the migration stayed")
		}
	})
}

func TestSchemasAreApart(t *testing.T) {
	cfg := sqldbtest.Postgres(t)
	schema := "apart_" + fmt.Sprint(time.Now().UnixNano()%1e9)
	a, err := sqldb.Open(t.Context(), cfg, schema)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	t.Cleanup(func() { dropSchema(t, cfg, schema) })
	sqldbtest.Run(t, "things", migrations, func(t *testing.T, b *sqldb.DB) {
		t.Helper()
		if b.Driver() != sqldb.Postgres {
			t.Skip("files are apart by nature")
		}
		if _, err := a.ExecContext(t.Context(), "SELECT id FROM things"); err == nil {
			t.Error("one schema's tables are seen from another")
		}
	})
}

// A careful administrator makes the schema and gives the service no right to
// make others.
func TestRoleThatMayNotCreateSchemas(t *testing.T) {
	cfg := sqldbtest.Postgres(t)
	if !strings.Contains(cfg.DSN, "?") {
		t.Skip("needs a URL with parameters")
	}
	name := "granted_" + fmt.Sprint(time.Now().UnixNano()%1e9)
	admin, err := sqldb.Open(t.Context(), cfg, name)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	for _, q := range []string{"CREATE ROLE " + name, "GRANT USAGE, CREATE ON SCHEMA " + name + " TO " + name} {
		if _, err := admin.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		dropSchema(t, cfg, name)
		other, err := sqldb.Open(context.WithoutCancel(t.Context()), cfg, "public")
		if err != nil {
			t.Error(err)
			return
		}
		defer other.Close()
		if _, err := other.ExecContext(context.WithoutCancel(t.Context()), "DROP ROLE "+name); err != nil {
			t.Error(err)
		}
	})
	limited := cfg
	limited.DSN += "&role=" + name
	db, err := sqldb.Open(t.Context(), limited, name)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(t.Context(), migrations); err != nil {
		t.Error(err)
	}
	if other, err := sqldb.Open(t.Context(), limited, name+"_x"); err == nil {
		other.Close()
		t.Error("the role made a schema: the test shows nothing")
	}
}

func TestSQLiteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new dir", "a?b#c%20.db")
	db, err := sqldb.Open(t.Context(), sqldb.Config{Driver: sqldb.SQLite, DSN: path}, "things")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for pragma, want := range map[string]string{"journal_mode": "wal", "foreign_keys": "1", "busy_timeout": "10000", "synchronous": "2"} {
		var got string
		if err := db.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %s, %v; want %s", pragma, got, err, want)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file has the mode %v", info.Mode())
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := map[string]struct {
		cfg    sqldb.Config
		schema string
	}{
		"driver":     {sqldb.Config{Driver: "mysql", DSN: "x"}, "a"},
		"no dsn":     {sqldb.Config{Driver: sqldb.SQLite}, "a"},
		"memory":     {sqldb.Config{Driver: sqldb.SQLite, DSN: ":memory:"}, "a"},
		"uri":        {sqldb.Config{Driver: sqldb.SQLite, DSN: "file:x"}, "a"},
		"schema":     {sqldb.Config{Driver: sqldb.SQLite, DSN: "x"}, `a"; DROP`},
		"long":       {sqldb.Config{Driver: sqldb.SQLite, DSN: "x"}, strings.Repeat("a", 49)},
		"bad string": {sqldb.Config{Driver: sqldb.Postgres, DSN: "postgres://u:hunter2@h:bad/db"}, "a"},
		"no server":  {sqldb.Config{Driver: sqldb.Postgres, DSN: "postgres://u@127.0.0.1:1/db"}, "a"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			db, err := sqldb.Open(t.Context(), tt.cfg, tt.schema)
			if err == nil {
				db.Close()
				t.Fatal("no error")
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}

func TestConfigValidate(t *testing.T) {
	tests := map[string]struct {
		cfg               sqldb.Config
		wantErr, wantWarn string
	}{
		"sqlite":        {sqldb.Config{Driver: "sqlite", DSN: "a.db"}, "", ""},
		"loopback":      {sqldb.Config{Driver: "postgres", DSN: "postgres://u@127.0.0.1/db?sslmode=disable"}, "", ""},
		"socket":        {sqldb.Config{Driver: "postgres", DSN: "host=/run/postgresql user=u"}, "", ""},
		"not encrypted": {sqldb.Config{Driver: "postgres", DSN: "postgres://u@db.example/db?sslmode=disable"}, "", "database.dsn: the connection to db.example is not encrypted"},
		"encrypted":     {sqldb.Config{Driver: "postgres", DSN: "postgres://u@db.example/db?sslmode=require"}, "", ""},
		"driver":        {sqldb.Config{Driver: "mysql", DSN: "x"}, "database.driver", ""},
		"dsn":           {sqldb.Config{Driver: "sqlite"}, "database.dsn", ""},
		"string":        {sqldb.Config{Driver: "postgres", DSN: "postgres://u:hunter2@h:bad/db"}, "database.dsn", ""},
		"conns":         {sqldb.Config{Driver: "sqlite", DSN: "a.db", MaxOpenConns: 1}, "database.max_open_conns", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var p config.Problems
			tt.cfg.Validate(p.In("database"))
			if err := p.Err(); (err == nil) != (tt.wantErr == "") || err != nil && (!strings.HasPrefix(err.Error(), tt.wantErr) || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("error %v, want one about %q", err, tt.wantErr)
			}
			if w := strings.Join(p.Warnings(), "\n"); (w == "") != (tt.wantWarn == "") || !strings.HasPrefix(w, tt.wantWarn) {
				t.Errorf("warning %q, want %q", w, tt.wantWarn)
			}
		})
	}
}

func TestTime(t *testing.T) {
	if sqldb.Time(time.Time{}) != 0 || !sqldb.FromTime(0).IsZero() {
		t.Error("the zero time does not stay zero")
	}
	at := time.Date(2026, 5, 6, 7, 8, 9, 123456789, time.FixedZone("x", 3600))
	if got := sqldb.FromTime(sqldb.Time(at)); !got.Equal(at) || got.Location() != time.UTC {
		t.Errorf("%v came back as %v", at, got)
	}
}

func Example() {
	dir, err := os.MkdirTemp("", "sqldb")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	db, err := sqldb.Open(ctx, sqldb.Config{Driver: sqldb.SQLite, DSN: filepath.Join(dir, "scanner.db")}, "scanner")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	if err := db.Migrate(ctx, migrations); err != nil { // in a service: an embed.FS
		fmt.Println(err)
		return
	}
	err = db.InTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO things (id, n) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING", "a", 1)
		return err
	})
	fmt.Println(db.Driver(), err)
	// Output: sqlite <nil>
}
