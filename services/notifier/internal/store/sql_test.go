package store_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSQL_Conformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T, test func(t *testing.T, s store.Store)) {
		t.Helper()
		sqldbtest.Run(t, store.Schema, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
			t.Helper()
			test(t, store.New(db))
		})
	})
}
