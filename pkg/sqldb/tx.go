package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
)

// maxAttempts bounds how often InTx runs its function.
const maxAttempts = 10

// InTx runs fn in a transaction and commits; the package says what fn must lock. If
// the engine asks for it (deadlock, lock not granted in time, busy), the transaction
// is run again, at most 10 times, so fn must have no effect outside tx. An error or
// panic of fn rolls back. Within fn, use tx only: on SQLite a write through db would
// wait for fn itself.
func (db *DB) InTx(ctx context.Context, fn func(tx *sql.Tx) error) error {
	if db.writer != nil {
		select {
		case db.writer <- struct{}{}:
			defer func() { <-db.writer }()
		case <-ctx.Done():
			return fmt.Errorf("sqldb: wait for the writer: %w", ctx.Err())
		}
	}
	var err error
	for attempt := range maxAttempts {
		if attempt > 0 && !pause(ctx, attempt) {
			break
		}
		if err = db.once(ctx, fn); !Retryable(err) {
			return err
		}
	}
	return fmt.Errorf("sqldb: transaction failed after retries: %w", err)
}

func (db *DB) once(ctx context.Context, fn func(tx *sql.Tx) error) error {
	// SQLite knows one level, serializable, and does not want it named.
	opts := &sql.TxOptions{}
	if db.driver == Postgres {
		opts.Isolation = sql.LevelReadCommitted
	}
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return fmt.Errorf("sqldb: begin: %w", err)
	}
	defer tx.Rollback()
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("sqldb: commit: %w", err)
	}
	return nil
}

// Lock waits until no other transaction of the schema has the lock of the name, and
// keeps it until tx ends. Statements after it see what the holders before it
// committed. It is for what no single row stands for. Those who wait get it in the
// order they came, shared or not, so a stream of sharers starves nobody. On SQLite
// there is one writer anyway, and nothing is done.
func (db *DB) Lock(ctx context.Context, tx *sql.Tx, name string) error {
	return db.lock(ctx, tx, "SELECT pg_advisory_xact_lock($1)", name)
}

// LockShared is Lock for those who do not disturb each other: they hold it together
// while nobody has it alone.
func (db *DB) LockShared(ctx context.Context, tx *sql.Tx, name string) error {
	return db.lock(ctx, tx, "SELECT pg_advisory_xact_lock_shared($1)", name)
}

func (db *DB) lock(ctx context.Context, tx *sql.Tx, query, name string) error {
	if db.driver != Postgres {
		return nil
	}
	// Two names with one hash only wait for each other once in a while.
	if _, err := tx.ExecContext(ctx, query, lockID("tx/"+db.schema+"/"+name)); err != nil {
		return fmt.Errorf("sqldb: lock %s: %w", name, err)
	}
	return nil
}

// pause waits 5 ms, 10 ms, … up to 320 ms, each with jitter; false if ctx ended.
func pause(ctx context.Context, attempt int) bool {
	d := 5 * time.Millisecond << min(attempt-1, 6)
	t := time.NewTimer(d/2 + rand.N(d)) //nolint:gosec // jitter guards against stampedes, not against people
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

const (
	// https://www.postgresql.org/docs/current/errcodes-appendix.html
	pgSerializationFailure = "40001"
	pgDeadlockDetected     = "40P01"
	pgLockNotAvailable     = "55P03"
	pgUniqueViolation      = "23505"
	// https://www.sqlite.org/rescode.html; the low byte is the primary code.
	sqliteBusy             = 5
	sqliteLocked           = 6
	sqliteConstraintUnique = 2067
	sqliteConstraintKey    = 1555
)

// Retryable reports whether the engine asks to run the transaction again.
func Retryable(err error) bool {
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pe.Code == pgSerializationFailure || pe.Code == pgDeadlockDetected || pe.Code == pgLockNotAvailable
	}
	if se, ok := errors.AsType[*sqlite.Error](err); ok {
		return se.Code()&0xff == sqliteBusy || se.Code()&0xff == sqliteLocked
	}
	return false
}

// IsUniqueViolation reports whether a row with the same key exists already.
func IsUniqueViolation(err error) bool {
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pe.Code == pgUniqueViolation
	}
	if se, ok := errors.AsType[*sqlite.Error](err); ok {
		return se.Code() == sqliteConstraintUnique || se.Code() == sqliteConstraintKey
	}
	return false
}
