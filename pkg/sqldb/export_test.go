package sqldb

import "database/sql"

// Migrations is the pool that changes the schema.
func (db *DB) Migrations() *sql.DB { return db.migrations }
