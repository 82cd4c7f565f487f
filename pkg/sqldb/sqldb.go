// Package sqldb opens a service's database: SQLite (embedded) or PostgreSQL,
// both behind one *sql.DB and one SQL text.
//
// The common SQL: placeholders $1, $2 (also repeated), BIGINT for times in
// Unix nanoseconds (see [Time]), BYTEA for bytes, TEXT, BOOLEAN,
// INSERT … ON CONFLICT … DO UPDATE|NOTHING, RETURNING. No AUTOINCREMENT, no
// time types, no JSON operators, no FOR UPDATE.
//
// Transactions through [DB.InTx] run one at a time on SQLite and READ COMMITTED on
// PostgreSQL, where each statement sees what was committed before it began. A
// transaction that reads first and writes by what it read must therefore lock: with
// a write to the row that it reads (UPDATE … SET x = x … RETURNING), or with
// [DB.Lock] where there is no such row.
//
// A service owns its schema: on PostgreSQL the schema is the connection's
// search_path, on SQLite the file is the schema.
package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
)

// The engines, as Config.Driver names them.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// Config is the database section of a service's configuration.
type Config struct {
	// Driver is "sqlite" or "postgres".
	Driver string `yaml:"driver"`
	// DSN is the path of the file for sqlite, and a connection string
	// (postgres://user@host:5432/db?sslmode=verify-full, or key=value) for
	// postgres. A password is better given in the file that passfile=… or
	// PGPASSFILE names than here.
	DSN string `yaml:"dsn"`
	// MaxOpenConns bounds the pool; 0 = 4 for sqlite, 10 for postgres. At least 2.
	MaxOpenConns int `yaml:"max_open_conns"`
}

// Validate reports what is wrong with the section.
func (c Config) Validate(p *config.Problems) {
	switch c.Driver {
	case SQLite:
	case Postgres:
		checkPostgres(p, c.DSN)
	default:
		p.Errorf("driver", "%q is neither sqlite nor postgres", c.Driver)
	}
	if c.DSN == "" {
		p.Errorf("dsn", "must be given: a file path for sqlite, a connection string for postgres")
	}
	if c.MaxOpenConns < 0 || c.MaxOpenConns == 1 {
		p.Errorf("max_open_conns", "%d is not 0 (the default) or at least 2", c.MaxOpenConns)
	}
}

// DB is a pool of connections to one service's schema.
type DB struct {
	*sql.DB
	driver string
	schema string
	// migrations is the pool that changes the schema, without the time limits of the
	// other; the same as DB on SQLite.
	migrations *sql.DB
	// writer admits one InTx at a time on SQLite, which has one writer: waiting
	// here is fair and free, waiting in SQLite is polling. nil on PostgreSQL.
	writer chan struct{}
	// migrating keeps two Migrate calls of one process apart.
	migrating sync.Mutex
}

var schemaName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)

// Open connects and makes the schema if it is missing; it does not migrate. It
// fails if the database cannot be reached: the caller decides whether to wait.
// The schema is lower-case letters, digits and underscores, at most 48 bytes.
func Open(ctx context.Context, cfg Config, schema string) (*DB, error) {
	if !schemaName.MatchString(schema) {
		return nil, fmt.Errorf("sqldb: schema name %q is not [a-z][a-z0-9_]{0,47}", schema)
	}
	if cfg.DSN == "" {
		return nil, errors.New("sqldb: no DSN")
	}
	var db *DB
	var err error
	switch cfg.Driver {
	case SQLite:
		db, err = openSQLite(ctx, cfg)
	case Postgres:
		db, err = openPostgres(ctx, cfg, schema)
	default:
		return nil, fmt.Errorf("sqldb: driver %q is neither sqlite nor postgres", cfg.Driver)
	}
	if err != nil {
		return nil, err
	}
	db.schema = schema
	return db, nil
}

// Close closes the database.
func (db *DB) Close() error {
	err := db.DB.Close()
	if db.migrations != db.DB {
		err = errors.Join(err, db.migrations.Close())
	}
	return err
}

// Driver is "sqlite" or "postgres".
func (db *DB) Driver() string { return db.driver }

// Time is how a time is stored: Unix nanoseconds, 0 for the zero time.
func Time(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// FromTime reads what Time stored, in UTC.
func FromTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
