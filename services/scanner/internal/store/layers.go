package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
)

// Layer implements Store.
func (s *SQL) Layer(ctx context.Context, digest, extractors string) ([]byte, error) {
	var content []byte
	err := s.db.QueryRowContext(ctx, `SELECT content FROM layers WHERE digest = $1 AND extractors = $2`, digest, extractors).Scan(&content)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read layer: %w", err)
	}
	return content, nil
}

// PutLayer implements Store.
func (s *SQL) PutLayer(ctx context.Context, digest, extractors string, content []byte, now time.Time) error {
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO layers (digest, extractors, content, create_time) VALUES ($1, $2, $3, $4)
			ON CONFLICT (digest, extractors) DO UPDATE SET content = excluded.content, create_time = excluded.create_time`,
			digest, extractors, content, sqldb.Time(now))
		return err
	})
	if err != nil {
		return fmt.Errorf("put layer: %w", err)
	}
	return nil
}
