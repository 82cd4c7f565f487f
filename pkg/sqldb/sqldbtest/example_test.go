package sqldbtest_test

import (
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
)

func ExampleRun() {
	// Inside func TestStore(t *testing.T):
	test := func(t *testing.T) {
		t.Helper()
		sqldbtest.Run(t, "scanner", nil, func(t *testing.T, db *sqldb.DB) {
			t.Helper()
			if _, err := db.ExecContext(t.Context(), "CREATE TABLE scans (id TEXT PRIMARY KEY)"); err != nil {
				t.Error(err)
			}
		})
	}
	_ = test
	// Output:
}
