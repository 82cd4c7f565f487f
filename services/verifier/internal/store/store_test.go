package store_test

import (
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	sqldbtest.Run(t, "verifier", store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		storetest.Run(t, func(t *testing.T) store.Store {
			t.Helper()
			empty(t, db)
			return store.New(db)
		})
	})
}

// empty clears the tables, which is faster than a schema for each test.
func empty(t *testing.T, db *sqldb.DB) {
	t.Helper()
	for _, stmt := range []string{
		"DELETE FROM verdicts", "DELETE FROM images", "DELETE FROM tags", "DELETE FROM report_times",
		"DELETE FROM outbox", "DELETE FROM documents",
		"DELETE FROM policies", "DELETE FROM policy_versions", "DELETE FROM audit_outbox",
		"DELETE FROM exceptions", "DELETE FROM reevaluations", "DELETE FROM leases", "DELETE FROM trust_bundles", "DELETE FROM vex_documents",
		"DELETE FROM waiting_reports", "DELETE FROM retries", "DELETE FROM looks", "DELETE FROM image_platforms", "DELETE FROM dead_letters", "UPDATE counters SET value = 0",
	} {
		if _, err := db.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
}
