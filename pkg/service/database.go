package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
)

const (
	// The database is tried at these intervals while a service waits for it,
	// each twice the one before.
	minDatabaseWait = 250 * time.Millisecond
	maxDatabaseWait = 5 * time.Second
	// databaseOpenTimeout bounds one try.
	databaseOpenTimeout = 15 * time.Second
	// While the service runs, the database is asked at this interval whether
	// it is there, for /readyz.
	pingInterval = 2 * time.Second
	pingTimeout  = 2 * time.Second
)

// keepDatabase opens the database, hands it over, watches it and closes it.
func (r *runner) keepDatabase(ctx context.Context, opened chan<- *sqldb.DB) error {
	db, err := r.openDatabase(ctx)
	if err != nil || db == nil {
		return err
	}
	r.readiness.Set(componentDatabase, nil)
	opened <- db
	r.watchDatabase(ctx, db)
	if err := db.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// openDatabase waits for a server that is down or not set up yet. A SQLite
// file is on this machine: what is wrong with it does not pass by waiting.
// Both results are nil if ctx ended.
func (r *runner) openDatabase(ctx context.Context) (*sqldb.DB, error) {
	logged := ""
	for wait := minDatabaseWait; ; wait = min(2*wait, maxDatabaseWait) {
		attempt, cancel := context.WithTimeout(ctx, databaseOpenTimeout)
		db, err := sqldb.Open(attempt, r.cfg.Database, r.name)
		cancel()
		switch {
		case err == nil:
			return db, nil
		case ctx.Err() != nil:
			return nil, nil //nolint:nilerr // told to stop while waiting: nothing opened, nothing wrong
		case r.cfg.Database.Driver == sqldb.SQLite:
			return nil, err
		}
		r.readiness.Set(componentDatabase, err)
		if err.Error() != logged {
			logged = err.Error()
			r.log.WarnContext(ctx, "waiting for the database", "error", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, nil
		}
	}
}

func (r *runner) watchDatabase(ctx context.Context, db *sqldb.DB) {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	up := true
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		err := ping(ctx, db)
		if ctx.Err() != nil {
			return
		}
		r.readiness.Set(componentDatabase, err)
		if up != (err == nil) {
			up = err == nil
			if up {
				r.log.InfoContext(ctx, "database back")
			} else {
				r.log.WarnContext(ctx, "database lost", "error", err)
			}
		}
	}
}

// ping asks the database. That every connection is at work is not a failure:
// taking a busy replica out of the balance would only make the others busier.
func ping(ctx context.Context, db *sqldb.DB) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	err := db.PingContext(ctx)
	if s := db.Stats(); errors.Is(err, context.DeadlineExceeded) && s.InUse >= s.MaxOpenConnections {
		return nil
	}
	return err
}
