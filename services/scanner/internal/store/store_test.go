package store_test

import (
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store/storetest"
)

func TestConformance(t *testing.T) {
	// The suite opens a store a test; each engine gives it a fresh schema.
	for _, name := range storetest.Names() {
		t.Run(name, func(t *testing.T) {
			sqldbtest.Run(t, "scanner", store.Migrations(), func(t *testing.T, db *sqldb.DB) {
				t.Helper()
				s, err := store.New(db)
				if err != nil {
					t.Fatal(err)
				}
				storetest.One(t, name, s)
			})
		})
	}
}
