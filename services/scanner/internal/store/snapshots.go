package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
)

// chunkSize is the size of the pieces a snapshot is stored in.
const chunkSize = 1 << 20

// CurrentSnapshot implements Store.
func (s *SQL) CurrentSnapshot(ctx context.Context) (string, error) {
	digest, err := currentSnapshot(ctx, s.db)
	if err != nil {
		return "", fmt.Errorf("read current snapshot: %w", err)
	}
	return digest, nil
}

func currentSnapshot(ctx context.Context, q querier) (string, error) {
	var digest string
	err := q.QueryRowContext(ctx, `SELECT digest FROM current_snapshot WHERE id = 1`).Scan(&digest)
	if errors.Is(err, sql.ErrNoRows) {
		return "", ErrNotFound
	}
	return digest, err
}

// Snapshot implements Store.
func (s *SQL) Snapshot(ctx context.Context, digest string) ([]byte, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT content FROM snapshot_chunks WHERE digest = $1 ORDER BY position`, digest)
	if err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	defer rows.Close()
	var out bytes.Buffer
	for rows.Next() {
		var chunk sql.RawBytes
		if err := rows.Scan(&chunk); err != nil {
			return nil, fmt.Errorf("read snapshot: %w", err)
		}
		out.Write(chunk)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	if out.Len() == 0 {
		return nil, fmt.Errorf("read snapshot: %w", ErrNotFound)
	}
	return out.Bytes(), nil
}

// SetSnapshot implements Store.
func (s *SQL) SetSnapshot(ctx context.Context, n StoredSnapshot) error {
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		if err := s.lockSnapshot(ctx, tx); err != nil {
			return err
		}
		return setSnapshot(ctx, tx, n)
	})
	if err != nil {
		return fmt.Errorf("set snapshot: %w", err)
	}
	return nil
}

// SeedSnapshot implements Store.
func (s *SQL) SeedSnapshot(ctx context.Context, n StoredSnapshot) (bool, error) {
	seeded := false
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		if err := s.lockSnapshot(ctx, tx); err != nil {
			return err
		}
		_, err := currentSnapshot(ctx, tx)
		seeded = errors.Is(err, ErrNotFound)
		if !seeded {
			return err
		}
		return setSnapshot(ctx, tx, n)
	})
	if err != nil {
		return false, fmt.Errorf("seed snapshot: %w", err)
	}
	return seeded, nil
}

// lockSnapshot keeps the index and the queue as they are while the snapshot in use
// changes: an image that is stored before is found in the index, one that is stored
// after finds the new snapshot and asks for itself.
func (s *SQL) lockSnapshot(ctx context.Context, tx *sql.Tx) error {
	if err := s.db.Lock(ctx, tx, lockIndex); err != nil {
		return err
	}
	return s.db.Lock(ctx, tx, lockRematches)
}

func setSnapshot(ctx context.Context, tx *sql.Tx, n StoredSnapshot) error {
	base, err := currentSnapshot(ctx, tx)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	n.ChangedAll = n.ChangedAll || base != n.Base
	if err := askChanged(ctx, tx, &n); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO snapshots (digest, advisory_count, create_time) VALUES ($1, $2, $3)
		ON CONFLICT (digest) DO NOTHING`, n.Digest, n.Count, sqldb.Time(n.Time))
	if err != nil {
		return err
	}
	// The encoder may have changed since the same snapshot was stored.
	if _, err := tx.ExecContext(ctx, `DELETE FROM snapshot_chunks WHERE digest = $1`, n.Digest); err != nil {
		return err
	}
	for i, rest := int64(0), n.Content; len(rest) > 0; i++ {
		chunk := rest[:min(len(rest), chunkSize)]
		rest = rest[len(chunk):]
		_, err := tx.ExecContext(ctx, `INSERT INTO snapshot_chunks (digest, position, content) VALUES ($1, $2, $3)`, n.Digest, i, chunk)
		if err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO current_snapshot (id, digest) VALUES (1, $1)
		ON CONFLICT (id) DO UPDATE SET digest = excluded.digest`, n.Digest)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(n.ScoreTimes)) {
		if n.ScoreTimes[name].IsZero() {
			continue
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO score_lists (name, data_time) VALUES ($1, $2)
			ON CONFLICT (name) DO UPDATE SET data_time = excluded.data_time`, name, sqldb.Time(n.ScoreTimes[name]))
		if err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM snapshot_chunks WHERE digest <> $1`, n.Digest); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM snapshots WHERE digest <> $1`, n.Digest)
	return err
}

// ScoreTimes implements Store.
func (s *SQL) ScoreTimes(ctx context.Context) (map[string]time.Time, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT name, data_time FROM score_lists`)
	if err != nil {
		return nil, fmt.Errorf("read times of scores: %w", err)
	}
	defer rows.Close()
	out := map[string]time.Time{}
	for rows.Next() {
		var name string
		var at int64
		if err := rows.Scan(&name, &at); err != nil {
			return nil, fmt.Errorf("read times of scores: %w", err)
		}
		out[name] = sqldb.FromTime(at)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read times of scores: %w", err)
	}
	return out, nil
}
