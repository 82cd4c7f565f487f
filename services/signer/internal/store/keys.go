package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
)

const keyColumns = `key_id, public_key_pem, start_time, end_time, seen_time, revoke_time, identity`

func scanKey(row func(...any) error) (SigningKey, error) {
	var k SigningKey
	var start, end, seen, revoked int64
	err := row(&k.ID, &k.PublicPEM, &start, &end, &seen, &revoked, &k.Identity)
	k.StartTime, k.EndTime = sqldb.FromTime(start), sqldb.FromTime(end)
	k.SeenTime, k.RevokeTime = sqldb.FromTime(seen), sqldb.FromTime(revoked)
	return k, err
}

func addKey(ctx context.Context, tx *sql.Tx, k SigningKey) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO signing_keys (`+keyColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (key_id) DO NOTHING`,
		k.ID, k.PublicPEM, sqldb.Time(k.StartTime), sqldb.Time(k.EndTime), sqldb.Time(k.SeenTime), sqldb.Time(k.RevokeTime),
		k.Identity)
	if err != nil {
		return fmt.Errorf("write signing key: %w", err)
	}
	return nil
}

func getKey(ctx context.Context, q querier, id string) (SigningKey, error) {
	k, err := scanKey(q.QueryRowContext(ctx, `SELECT `+keyColumns+` FROM signing_keys WHERE key_id = $1`, id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return SigningKey{}, ErrNotFound
	}
	if err != nil {
		return SigningKey{}, fmt.Errorf("read signing key: %w", err)
	}
	return k, nil
}

// changeKeys runs a change of the keys; there is one at a time, since each depends on
// all keys: a rotation ends every key that has no end.
func (s *SQL) changeKeys(ctx context.Context, change func(tx *sql.Tx) error) error {
	return s.db.InTx(ctx, func(tx *sql.Tx) error {
		if err := s.db.Lock(ctx, tx, lockKeys); err != nil {
			return err
		}
		return change(tx)
	})
}

// AddKey implements Store.
func (s *SQL) AddKey(ctx context.Context, k SigningKey) error {
	return s.changeKeys(ctx, func(tx *sql.Tx) error { return addKey(ctx, tx, k) })
}

// Keys implements Store.
func (s *SQL) Keys(ctx context.Context) ([]SigningKey, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT `+keyColumns+` FROM signing_keys ORDER BY seen_time DESC, key_id`)
	if err != nil {
		return nil, fmt.Errorf("list signing keys: %w", err)
	}
	defer rows.Close()
	var out []SigningKey
	for rows.Next() {
		k, err := scanKey(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("list signing keys: %w", err)
		}
		out = append(out, k)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list signing keys: %w", err)
	}
	return out, nil
}

// Rotated implements Store.
func (s *SQL) Rotated(ctx context.Context, requestID string) (SigningKey, error) {
	return rotated(ctx, s.db, requestID)
}

func rotated(ctx context.Context, q querier, requestID string) (SigningKey, error) {
	var id string
	err := q.QueryRowContext(ctx, `SELECT key_id FROM key_rotations WHERE request_id = $1`, requestID).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return SigningKey{}, ErrNotFound
	}
	if err != nil {
		return SigningKey{}, fmt.Errorf("read key rotation: %w", err)
	}
	return getKey(ctx, q, id)
}

// Rotate implements Store.
func (s *SQL) Rotate(ctx context.Context, requestID string, k SigningKey, end time.Time) (SigningKey, error) {
	var out SigningKey
	err := s.changeKeys(ctx, func(tx *sql.Tx) error {
		var err error
		if out, err = rotated(ctx, tx, requestID); !errors.Is(err, ErrNotFound) {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE signing_keys SET end_time = $1 WHERE end_time = 0 AND identity = '' AND key_id <> $2`, sqldb.Time(end), k.ID); err != nil {
			return fmt.Errorf("end signing keys: %w", err)
		}
		if err := addKey(ctx, tx, k); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO key_rotations (request_id, key_id, rotate_time) VALUES ($1, $2, $3)`,
			requestID, k.ID, sqldb.Time(k.SeenTime))
		if err != nil {
			return fmt.Errorf("write key rotation: %w", err)
		}
		out, err = getKey(ctx, tx, k.ID)
		return err
	})
	return out, err
}

// Revoke implements Store.
func (s *SQL) Revoke(ctx context.Context, id string, at time.Time) (SigningKey, error) {
	var out SigningKey
	err := s.changeKeys(ctx, func(tx *sql.Tx) error {
		k, err := getKey(ctx, tx, id)
		if err != nil {
			return err
		}
		if !k.Revocable() {
			return ErrInUse
		}
		_, err = tx.ExecContext(ctx, `UPDATE signing_keys SET revoke_time = $1 WHERE key_id = $2 AND revoke_time = 0`, sqldb.Time(at), id)
		if err != nil {
			return fmt.Errorf("revoke signing key: %w", err)
		}
		out, err = getKey(ctx, tx, id)
		return err
	})
	return out, err
}

// Adopt implements Store.
func (s *SQL) Adopt(ctx context.Context, keys []SigningKey) error {
	return s.changeKeys(ctx, func(tx *sql.Tx) error {
		for _, k := range keys {
			if err := addKey(ctx, tx, k); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, `UPDATE signing_keys SET
					end_time = CASE WHEN end_time = 0 THEN $1 ELSE end_time END,
					revoke_time = CASE WHEN revoke_time = 0 THEN $2 ELSE revoke_time END
				WHERE key_id = $3`, sqldb.Time(k.EndTime), sqldb.Time(k.RevokeTime), k.ID)
			if err != nil {
				return fmt.Errorf("adopt signing key: %w", err)
			}
		}
		return nil
	})
}
