package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// sourceTrustRoots names the row that remembers by which trust roots images are judged.
const sourceTrustRoots = "trust-roots"

// SyncTrust implements Store.
func (s *SQL) SyncTrust(ctx context.Context, fingerprint string, cause Cause, by Audit) error {
	// Nearly always nothing has changed; then no lock is taken.
	if before, err := s.Trust(ctx); err != nil || before == fingerprint {
		return err
	}
	err := s.changeRules(ctx, cause, by, func(tx *sql.Tx) ([]string, error) {
		before, err := trust(ctx, tx)
		if err != nil || before == fingerprint {
			return nil, err
		}
		_, err = tx.ExecContext(ctx, `
			INSERT INTO trust_bundles (source, body, fetch_time) VALUES ($1, $2, 0)
			ON CONFLICT (source) DO UPDATE SET body = excluded.body`, sourceTrustRoots, []byte(fingerprint))
		return []string{"trust roots " + fingerprint}, err
	})
	if err != nil {
		return fmt.Errorf("take over trust roots: %w", err)
	}
	return nil
}

// Trust implements Store.
func (s *SQL) Trust(ctx context.Context) (string, error) {
	fingerprint, err := trust(ctx, s.db)
	if err != nil {
		return "", fmt.Errorf("read trust roots: %w", err)
	}
	return fingerprint, nil
}

func trust(ctx context.Context, q interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}) (string, error) {
	var body []byte
	err := q.QueryRowContext(ctx, `SELECT body FROM trust_bundles WHERE source = $1`, sourceTrustRoots).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return string(body), err
}
