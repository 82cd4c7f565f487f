package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

const defaultSQLiteConns = 4

func openSQLite(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.DSN == ":memory:" || strings.HasPrefix(cfg.DSN, "file:") {
		return nil, fmt.Errorf("sqldb: sqlite wants the path of a file, not %q", cfg.DSN)
	}
	if err := createPrivate(cfg.DSN); err != nil {
		return nil, fmt.Errorf("sqldb: %w", err)
	}
	pool := sql.OpenDB(sqliteConnector{sqliteURI(cfg.DSN)})
	conns := cfg.MaxOpenConns
	if conns == 0 {
		conns = defaultSQLiteConns
	}
	pool.SetMaxOpenConns(conns)
	// A connection costs nothing while it waits; to open one and compile what it
	// runs costs more than most queries.
	pool.SetMaxIdleConns(conns)
	// The first connection turns WAL on, which no busy_timeout waits for; so it
	// is made here, alone.
	if err := pool.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("sqldb: open sqlite %s: %w", cfg.DSN, err), pool.Close())
	}
	return &DB{DB: pool, migrations: pool, driver: SQLite, writer: make(chan struct{}, 1)}, nil
}

// createPrivate makes the file, so that it and the -wal and -shm files, which
// inherit its mode, are not readable by others.
func createPrivate(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func sqliteURI(path string) string {
	q := url.Values{}
	for _, pragma := range []string{
		"busy_timeout(10000)",
		"journal_mode(WAL)",
		"foreign_keys(1)",
		// FULL: an event is acknowledged after the commit, so a commit must
		// survive a power cut.
		"synchronous(FULL)",
	} {
		q.Add("_pragma", pragma)
	}
	// A transaction that reads first and writes later cannot wait for another
	// writer, it fails; taking the write lock at BEGIN waits instead.
	q.Set("_txlock", "immediate")
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}
