package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
)

// TestGroup gathers transactions behind one that is held: they share the next one, and
// where one of them fails, it alone does.
func TestGroup(t *testing.T) {
	for name, fails := range map[string]bool{"all succeed": false, "one fails": true} {
		t.Run(name, func(t *testing.T) {
			sqldbtest.Run(t, "things", migrations, func(t *testing.T, db *sqldb.DB) {
				t.Helper()
				testGroup(t, db, fails)
			})
		})
	}
}

func testGroup(t *testing.T, db *sqldb.DB, fails bool) {
	t.Helper()
	const callers = 20
	ctx, g := t.Context(), sqldb.NewGroup(db)
	insert := func(id string) func(tx *sql.Tx) error {
		return func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO things (id, n) VALUES ($1, 1)`, id)
			return err
		}
	}
	held, free, first := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		first <- g.InTx(ctx, func(tx *sql.Tx) error {
			close(held)
			<-free
			return insert("first")(tx)
		})
	}()
	<-held

	var (
		mu   sync.Mutex
		wait sync.WaitGroup
		in   = map[string]*sql.Tx{} // the transaction that each took effect in
		errs = map[string]error{}
	)
	for i := range callers {
		id := fmt.Sprint("thing", i)
		if fails && i == callers-1 {
			id = "first" // is there by then
		}
		wait.Go(func() {
			err := g.InTx(ctx, func(tx *sql.Tx) error {
				mu.Lock()
				in[id] = tx
				mu.Unlock()
				return insert(id)(tx)
			})
			mu.Lock()
			defer mu.Unlock()
			errs[id] = err
		})
	}
	gone, leave := context.WithCancel(ctx)
	wait.Go(func() {
		err := g.InTx(gone, func(*sql.Tx) error { return errors.New("it ran") })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that left: %v", err)
		}
	})
	for g.Waiting() < callers+1 {
		runtime.Gosched()
	}
	leave()
	close(free)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	wait.Wait()

	for id, err := range errs {
		if failed := err != nil; failed != (id == "first") {
			t.Errorf("%s: %v", id, err)
		}
	}
	var n int
	if err := db.QueryRowContext(ctx, `SELECT COUNT(*) FROM things`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	if want := callers + 1; !fails && n != want || fails && n != want-1 {
		t.Errorf("%d things of %d", n, want)
	}
	used := map[*sql.Tx]bool{}
	for _, tx := range in {
		used[tx] = true
	}
	if !fails && len(used) != 1 {
		t.Errorf("%d callers had %d transactions", callers, len(used))
	}
}
