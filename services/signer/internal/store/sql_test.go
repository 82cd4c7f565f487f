package store_test

import (
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store/storetest"
)

func TestSQL_Conformance(t *testing.T) {
	sqldbtest.Run(t, store.Schema, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		t.Helper()
		storetest.Run(t, func(t *testing.T) store.Store {
			t.Helper()
			s, err := store.New(t.Context(), db)
			if err != nil {
				t.Fatal(err)
			}
			for _, table := range []string{"signing_log", "signing_keys", "key_rotations"} {
				if _, err := db.ExecContext(t.Context(), "DELETE FROM "+table); err != nil {
					t.Fatal(err)
				}
			}
			return s
		})
	})
}
