package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
)

const (
	defaultPostgresConns = 10
	// Connections are renewed, so that a failed-over or rebalanced server gets
	// its share of them.
	connMaxLifetime = 30 * time.Minute
	connMaxIdle     = 5 * time.Minute
	connectTimeout  = 10 * time.Second
)

// Time limits of the server, so that a process which froze, or a machine which
// vanished, does not keep its locks. The connection string may set other ones
// (…?lock_timeout=30s).
var serverLimits = map[string]string{
	// A transaction whose owner says nothing is ended.
	"idle_in_transaction_session_timeout": "10s",
	// Longer than the one above: who waits for a frozen one outlasts it.
	"lock_timeout":      "15s",
	"statement_timeout": "60s",
	// A connection whose other end does not answer is closed within about 15 s.
	"tcp_user_timeout":        "15000",
	"tcp_keepalives_idle":     "5",
	"tcp_keepalives_interval": "5",
	"tcp_keepalives_count":    "2",
}

// keepAlive notices within about 15 s that the server vanished.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 2}

func openPostgres(ctx context.Context, cfg Config, schema string) (*DB, error) {
	pc, err := parsePostgres(cfg.DSN)
	if err != nil {
		return nil, err
	}
	pc.RuntimeParams["search_path"] = schema
	if pc.RuntimeParams["application_name"] == "" {
		pc.RuntimeParams["application_name"] = "seaworthy-" + schema
	}
	if pc.ConnectTimeout == 0 {
		pc.ConnectTimeout = connectTimeout
	}
	pc.DialFunc = (&net.Dialer{Timeout: pc.ConnectTimeout, KeepAliveConfig: keepAlive}).DialContext
	// A migration may take long, and waits long for the migration of another replica.
	migrations := stdlib.OpenDB(*pc.Copy())
	migrations.SetMaxIdleConns(0)
	for name, value := range serverLimits {
		if pc.RuntimeParams[name] == "" {
			pc.RuntimeParams[name] = value
		}
	}
	pool := stdlib.OpenDB(*pc)
	pool.SetMaxOpenConns(defaultPostgresConns)
	if cfg.MaxOpenConns > 0 {
		pool.SetMaxOpenConns(max(cfg.MaxOpenConns, 2))
	}
	pool.SetMaxIdleConns(defaultPostgresConns)
	pool.SetConnMaxLifetime(connMaxLifetime)
	pool.SetConnMaxIdleTime(connMaxIdle)
	db := &DB{DB: pool, migrations: migrations, driver: Postgres}
	if err := db.createSchema(ctx, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("sqldb: open postgres: %w", err), db.Close())
	}
	return db, nil
}

// parsePostgres does not repeat the connection string in its error: it may
// hold a password.
func parsePostgres(dsn string) (*pgx.ConnConfig, error) {
	pc, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("sqldb: the postgres connection string cannot be parsed; want postgres://user@host:port/database?sslmode=… or key=value pairs")
	}
	return pc, nil
}

// createSchema looks before it creates: a service's role often may use its
// schema but not create one.
func (db *DB) createSchema(ctx context.Context, schema string) error {
	exists := func(q interface {
		QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	}) (bool, error) {
		var ok bool
		err := q.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)", schema).Scan(&ok)
		return ok, err
	}
	if ok, err := exists(db.migrations); err != nil || ok {
		return err
	}
	return db.withAdvisoryLock(ctx, lockID("schema/"+schema), func(conn *sql.Conn) error {
		if ok, err := exists(conn); err != nil || ok {
			return err
		}
		_, err := conn.ExecContext(ctx, "CREATE SCHEMA "+pgx.Identifier{schema}.Sanitize())
		if err != nil {
			return fmt.Errorf("create schema %s: %w", schema, err)
		}
		return nil
	})
}

// withAdvisoryLock runs fn while this connection alone, among all replicas,
// holds the lock. If the process dies, the server frees the lock.
func (db *DB) withAdvisoryLock(ctx context.Context, id int64, fn func(*sql.Conn) error) (err error) {
	conn, err := db.migrations.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", id); err != nil {
		return fmt.Errorf("advisory lock: %w", err)
	}
	defer func() {
		// Even if ctx has ended: the connection goes back to the pool.
		unlock, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
		defer cancel()
		if _, uerr := conn.ExecContext(unlock, "SELECT pg_advisory_unlock($1)", id); uerr != nil {
			err = errors.Join(err, fmt.Errorf("advisory unlock: %w", uerr))
		}
	}()
	return fn(conn)
}

func lockID(name string) int64 {
	h := fnv.New64a()
	h.Write([]byte("seaworthy/" + name))
	return int64(h.Sum64())
}

func checkPostgres(p *config.Problems, dsn string) {
	if dsn == "" {
		return
	}
	pc, err := parsePostgres(dsn)
	if err != nil {
		p.Errorf("dsn", "%v", err)
		return
	}
	if pc.TLSConfig == nil && !private(pc.Host) {
		p.Warnf("dsn", "the connection to %s is not encrypted; set sslmode=verify-full", pc.Host)
	}
}

// private is true for a unix socket directory and for loopback.
func private(host string) bool {
	if host == "localhost" || host != "" && host[0] == '/' {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
