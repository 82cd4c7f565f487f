package sqldb_test

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
)

// onPostgres runs a test with the database that opens another pool with parameters of
// its own on the same schema.
func onPostgres(t *testing.T, test func(t *testing.T, open func(params string) *sqldb.DB)) {
	t.Helper()
	cfg := sqldbtest.Postgres(t)
	sqldbtest.Run(t, "things", migrations, func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		if db.Driver() != sqldb.Postgres {
			t.Skip("a file has one writer, in one process")
		}
		if _, err := db.ExecContext(t.Context(), "INSERT INTO things (id, n) VALUES ('c', 0)"); err != nil {
			t.Fatal(err)
		}
		var schema string
		if err := db.QueryRowContext(t.Context(), "SELECT current_schema()").Scan(&schema); err != nil {
			t.Fatal(err)
		}
		test(t, func(params string) *sqldb.DB {
			t.Helper()
			separator := "?"
			if strings.Contains(cfg.DSN, "?") {
				separator = "&"
			}
			other, err := sqldb.Open(t.Context(), sqldb.Config{Driver: sqldb.Postgres, DSN: cfg.DSN + separator + params}, schema)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = other.Close() })
			return other
		})
	})
}

// TestLock_SharersStarveNobody: there is a sharer at every moment, and the lock is
// given to one who wants it alone all the same. Sharers are many at a time.
func TestLock_SharersStarveNobody(t *testing.T) {
	onPostgres(t, func(t *testing.T, open func(string) *sqldb.DB) {
		t.Helper()
		a, b := open(""), open("")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var sharers sync.WaitGroup
		together := make(chan struct{}, 2)
		var once sync.Once
		met := make(chan struct{})
		for range 6 {
			sharers.Go(func() {
				for ctx.Err() == nil {
					_ = a.InTx(ctx, func(tx *sql.Tx) error {
						if err := a.LockShared(ctx, tx, "c"); err != nil {
							return err
						}
						select {
						case together <- struct{}{}:
						default:
							once.Do(func() { close(met) }) // the third at the same time
						}
						_, err := tx.ExecContext(ctx, "SELECT pg_sleep(0.02)")
						select {
						case <-together:
						default:
						}
						return err
					})
				}
			})
		}
		select {
		case <-met:
		case <-time.After(20 * time.Second):
			t.Error("sharers wait for each other")
		}
		for range 3 {
			begin := time.Now()
			err := b.InTx(t.Context(), func(tx *sql.Tx) error { return b.Lock(t.Context(), tx, "c") })
			if took := time.Since(begin); err != nil || took > 5*time.Second {
				t.Errorf("alone after %v: %v", took, err)
			}
		}
		cancel()
		sharers.Wait()
	})
}

// TestFrozenHolder: a process that holds a lock and says nothing loses it, and who
// waits for it goes on, also if the wait itself ran out of time.
func TestFrozenHolder(t *testing.T) {
	for name, params := range map[string]string{
		"ended in time":   "idle_in_transaction_session_timeout=1s&lock_timeout=10s",
		"asks once again": "idle_in_transaction_session_timeout=1s&lock_timeout=300ms",
	} {
		t.Run(name, func(t *testing.T) {
			onPostgres(t, func(t *testing.T, open func(string) *sqldb.DB) {
				t.Helper()
				frozen, other := open(params), open(params)
				tx, err := frozen.BeginTx(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := tx.ExecContext(t.Context(), "UPDATE things SET n = 1 WHERE id = 'c'"); err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				err = other.InTx(t.Context(), func(tx *sql.Tx) error {
					_, err := tx.ExecContext(t.Context(), "UPDATE things SET n = n + 10 WHERE id = 'c'")
					return err
				})
				if took := time.Since(begin); err != nil || took > 8*time.Second {
					t.Errorf("after %v: %v", took, err)
				}
				if err := tx.Commit(); err == nil {
					t.Error("what was frozen could commit")
				}
				var n int
				if err := other.QueryRowContext(t.Context(), "SELECT n FROM things WHERE id = 'c'").Scan(&n); err != nil || n != 10 {
					t.Errorf("n = %d, %v", n, err)
				}
			})
		})
	}
}

// TestServerLimits: connections have limits of time, which the connection string may
// change, and migrations have none.
func TestServerLimits(t *testing.T) {
	onPostgres(t, func(t *testing.T, open func(string) *sqldb.DB) {
		t.Helper()
		show := func(db *sql.DB, name string) (value string) {
			t.Helper()
			if err := db.QueryRowContext(t.Context(), "SELECT current_setting($1)", name).Scan(&value); err != nil {
				t.Fatal(err)
			}
			return value
		}
		for name, want := range map[string]string{
			"idle_in_transaction_session_timeout": "10s", "lock_timeout": "15s", "statement_timeout": "1min",
			"tcp_user_timeout": "15000", "tcp_keepalives_idle": "5", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "2",
		} {
			got := show(open("application_name=limits").DB, name)
			if strings.HasPrefix(name, "tcp_") && got == "0" {
				continue // a Unix socket
			}
			if got != want {
				t.Errorf("%s = %s, want %s", name, got, want)
			}
		}
		for _, name := range []string{"lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"} {
			if got := show(open("application_name=limits").Migrations(), name); got != "0" {
				t.Errorf("%s of migrations = %s", name, got)
			}
		}
		if got := show(open("lock_timeout=30s").DB, "lock_timeout"); got != "30s" {
			t.Errorf("lock_timeout of the connection string: %s", got)
		}
	})
}
