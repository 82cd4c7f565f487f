package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// sqliteMigrateAttempts is for two processes that open one new SQLite file at
// the same time: the loser fails on what the winner created, looks again and
// finds the work done.
const sqliteMigrateAttempts = 5

// Migrate brings the schema up to the newest migration: goose files
// (00001_name.sql) in the root of migrations. Replicas may call it at the same
// time; on PostgreSQL an advisory lock lets one after the other look. A schema
// that is newer than the migrations is left alone, so that a release can be
// rolled back.
func (db *DB) Migrate(ctx context.Context, migrations fs.FS) error {
	db.migrating.Lock()
	defer db.migrating.Unlock()
	if db.driver == Postgres {
		err := db.withAdvisoryLock(ctx, lockID("migrate/"+db.schema), func(*sql.Conn) error {
			return db.up(ctx, goose.DialectPostgres, migrations)
		})
		if err != nil {
			return fmt.Errorf("sqldb: migrate schema %s: %w", db.schema, err)
		}
		return nil
	}
	var err error
	for attempt := range sqliteMigrateAttempts {
		if attempt > 0 && !pause(ctx, attempt) {
			break
		}
		if err = db.up(ctx, goose.DialectSQLite3, migrations); err == nil {
			return nil
		}
	}
	return fmt.Errorf("sqldb: migrate: %w", err)
}

func (db *DB) up(ctx context.Context, dialect goose.Dialect, migrations fs.FS) error {
	p, err := goose.NewProvider(dialect, db.migrations, migrations, goose.WithDisableGlobalRegistry(true))
	if errors.Is(err, goose.ErrNoMigrations) {
		return nil
	}
	if err != nil {
		return err
	}
	// Not closed: closing the provider closes the pool.
	_, err = p.Up(ctx)
	return err
}
