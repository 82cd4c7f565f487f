package sqldb_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
)

func openFile(tb testing.TB, conns int) *sqldb.DB {
	tb.Helper()
	db, err := sqldb.Open(tb.Context(), sqldb.Config{Driver: sqldb.SQLite, DSN: filepath.Join(tb.TempDir(), "x.db"), MaxOpenConns: conns}, "things")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	if err := db.Migrate(tb.Context(), migrations); err != nil {
		tb.Fatal(err)
	}
	return db
}

// A text that is running is compiled once more: its first run goes on undisturbed.
func TestSQLite_OneTextTwiceAtATime(t *testing.T) {
	db := openFile(t, 2)
	err := db.InTx(t.Context(), func(tx *sql.Tx) error {
		for n := range 3 {
			if _, err := tx.ExecContext(t.Context(), "INSERT INTO things (id, n) VALUES ($1, $2)", fmt.Sprint("thing", n), n); err != nil {
				return err
			}
		}
		const text = "SELECT n FROM things WHERE n >= $1 ORDER BY n"
		outer, err := tx.QueryContext(t.Context(), text, 0)
		if err != nil {
			return err
		}
		defer outer.Close()
		var got []string
		for outer.Next() {
			var n int
			if err := outer.Scan(&n); err != nil {
				return err
			}
			sum, err := add(t.Context(), tx, text, n)
			if err != nil {
				return err
			}
			got = append(got, fmt.Sprintf("%d:%d", n, sum))
		}
		if want := "0:3 1:3 2:2"; strings.Join(got, " ") != want {
			t.Errorf("got %q, want %q", got, want)
		}
		return outer.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// add adds up what a query finds.
func add(ctx context.Context, tx *sql.Tx, text string, from int) (sum int, err error) {
	rows, err := tx.QueryContext(ctx, text, from)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var n int
		if err := rows.Scan(&n); err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, rows.Err()
}

// A statement that was compiled before the tables changed, that failed or that was
// given up in the middle does the right thing when it comes again.
func TestSQLite_StatementsComeAgain(t *testing.T) {
	db := openFile(t, 2)
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const insert, all = "INSERT INTO things (id, n) VALUES ($1, $2)", "SELECT * FROM things ORDER BY id"
	exec := func(text string, args ...any) error {
		_, err := conn.ExecContext(t.Context(), text, args...)
		return err
	}
	columns := func() int {
		rows, err := conn.QueryContext(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close() // in the middle
		names, err := rows.Columns()
		if err != nil || !rows.Next() {
			t.Fatalf("%v, no row: %v", err, rows.Err())
		}
		return len(names)
	}
	if err := exec(insert, "a", 1); err != nil {
		t.Fatal(err)
	}
	if err := exec(insert, "a", 1); !sqldb.IsUniqueViolation(err) {
		t.Errorf("the same key again: %v", err)
	}
	if err := exec(insert, "b", 2); err != nil {
		t.Errorf("after a failure: %v", err)
	}
	before := columns()
	if err := exec("ALTER TABLE things ADD COLUMN more TEXT"); err != nil {
		t.Errorf("while a statement was given up: %v", err)
	}
	if after := columns(); after != before+1 {
		t.Errorf("%d columns, then %d", before, after)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := conn.ExecContext(gone, insert, "c", 3); err == nil {
		t.Error("a call that was given up went through")
	}
	if err := exec(insert, "c", 3); err != nil {
		t.Errorf("after a call that was given up: %v", err)
	}
	if err := exec("INSERT INTO things (id, n) VALUES ('d', 4); INSERT INTO things (id, n) VALUES ('e', 5)"); err != nil {
		t.Error(err)
	}
	var n int
	if err := conn.QueryRowContext(t.Context(), "SELECT count(*) FROM things").Scan(&n); err != nil || n != 5 {
		t.Errorf("%d things, %v", n, err)
	}
}

// More texts than a connection keeps, and texts that it does not keep.
func TestSQLite_ManyTexts(t *testing.T) {
	db := openFile(t, 2)
	for range 2 {
		for n := range 200 {
			var got int
			text := fmt.Sprintf("SELECT $1 + %d%s", n, strings.Repeat(" ", n*40))
			if err := db.QueryRowContext(t.Context(), text, 1).Scan(&got); err != nil || got != n+1 {
				t.Fatalf("%d: %d, %v", n, got, err)
			}
		}
	}
}

// BenchmarkSQLite_Read reads a row by its key. x-compiled is how many go through in the
// time that the driver takes alone, which compiles the text each time.
func BenchmarkSQLite_Read(b *testing.B) {
	db := openFile(b, 2)
	if _, err := db.ExecContext(b.Context(), "INSERT INTO things (id, n) VALUES ('a', 1)"); err != nil {
		b.Fatal(err)
	}
	var path string
	if err := db.QueryRowContext(b.Context(), "SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&path); err != nil {
		b.Fatal(err)
	}
	plain, err := sql.Open("sqlite", path)
	if err != nil {
		b.Fatal(err)
	}
	defer plain.Close()
	read := func(db *sql.DB) func() {
		return func() {
			var n int
			if err := db.QueryRowContext(b.Context(), "SELECT n FROM things WHERE id = $1 AND ok = $2 AND at = $3", "a", false, 0).Scan(&n); err != nil {
				b.Fatal(err)
			}
		}
	}
	ours, theirs := turns(b, read(db.DB), read(plain))
	b.ReportMetric(theirs/ours, "x-compiled")
}

// turns measures both in the same run, a hundred calls of one and then of the other.
func turns(b *testing.B, first, second func()) (a, c float64) {
	b.Helper()
	for b.Loop() {
		for _, side := range []struct {
			call  func()
			total *float64
		}{{first, &a}, {second, &c}} {
			begin := time.Now()
			for range 100 {
				side.call()
			}
			*side.total += float64(time.Since(begin))
		}
	}
	return a, c
}
