package sqldbtest_test

import (
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
)

func TestRunGivesEachTestItsOwnSchema(t *testing.T) {
	for _, round := range []string{"first", "second"} {
		t.Run(round, func(t *testing.T) {
			sqldbtest.Run(t, "own", nil, func(t *testing.T, db *sqldb.DB) {
				t.Helper()
				if _, err := db.ExecContext(t.Context(), "CREATE TABLE only_once (id TEXT)"); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
