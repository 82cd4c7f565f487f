// Package sqldbtest runs a test on every engine that sqldb knows.
package sqldbtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
)

// EnvPostgres names the environment variable with the connection string of a
// PostgreSQL server that tests may create schemas on. Unset, tests on
// PostgreSQL are skipped; the value "required" makes them fail instead, so that
// a CI job cannot lose them by accident.
const EnvPostgres = "SEAWORTHY_TEST_POSTGRES"

// cleanupTimeout bounds dropping a test's schema.
const cleanupTimeout = 30 * time.Second

// Run calls f in the subtests "sqlite" and "postgres", each with a new, migrated
// schema of its own that goes away afterwards. A nil migrations leaves it empty.
func Run(t *testing.T, schema string, migrations fs.FS, f func(t *testing.T, db *sqldb.DB)) {
	t.Helper()
	t.Run(sqldb.SQLite, func(t *testing.T) {
		f(t, open(t, SQLite(t), schema, migrations))
	})
	t.Run(sqldb.Postgres, func(t *testing.T) {
		cfg := Postgres(t)
		f(t, open(t, cfg, freshSchema(t, cfg, schema), migrations))
	})
}

// SQLite is the configuration of a database in the test's own directory.
func SQLite(tb testing.TB) sqldb.Config {
	tb.Helper()
	return sqldb.Config{Driver: sqldb.SQLite, DSN: filepath.Join(tb.TempDir(), "test.db")}
}

// Postgres is the configuration of the test server; the test is skipped or
// fails, as EnvPostgres says, if there is none.
func Postgres(tb testing.TB) sqldb.Config {
	tb.Helper()
	dsn := os.Getenv(EnvPostgres)
	switch dsn {
	case "":
		tb.Skipf("%s is not set: not tested on PostgreSQL", EnvPostgres)
	case "required":
		tb.Fatalf("%s=required: give it a connection string instead", EnvPostgres)
	}
	return sqldb.Config{Driver: sqldb.Postgres, DSN: dsn}
}

func open(t *testing.T, cfg sqldb.Config, schema string, migrations fs.FS) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), cfg, schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close the database: %v", err)
		}
	})
	if migrations != nil {
		if err := db.Migrate(t.Context(), migrations); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

// freshSchema picks an unused name and drops the schema after the test.
func freshSchema(t *testing.T, cfg sqldb.Config, schema string) string {
	t.Helper()
	b := make([]byte, 4)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	name := schema + "_" + hex.EncodeToString(b)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		db, err := sqldb.Open(ctx, cfg, name)
		if err != nil {
			t.Errorf("drop schema %s: %v", name, err)
			return
		}
		defer db.Close()
		if _, err := db.ExecContext(ctx, "DROP SCHEMA "+name+" CASCADE"); err != nil {
			t.Errorf("drop schema %s: %v", name, err)
		}
	})
	return name
}
