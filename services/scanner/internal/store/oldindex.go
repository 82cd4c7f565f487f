package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// The release before indexed inventories by a row for every package of every image.
// Those that it left are searched until Reindex has moved them.

// askOld asks for images of the old index with one of the packages, or one of an
// ecosystem.
func askOld(ctx context.Context, tx *sql.Tx, keys []core.PackageKey, ecosystems []string) error {
	var one int64
	err := tx.QueryRowContext(ctx, `SELECT 1 FROM inventory_packages LIMIT 1`).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(keys, keyBatch) {
		where, args := anyKey("ecosystem", "name", batch, nil)
		_, err := tx.ExecContext(ctx, ask+`SELECT DISTINCT image_digest, 0, 0 FROM inventory_packages WHERE `+where+askAgain, args...)
		if err != nil {
			return err
		}
	}
	for _, e := range ecosystems {
		_, err := tx.ExecContext(ctx, ask+`SELECT DISTINCT image_digest, 0, 0 FROM inventory_packages WHERE ecosystem = $1`+askAgain, e)
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *SQL) oldImages(ctx context.Context, seen map[string]bool, keys []core.PackageKey, from string, n int) error {
	for batch := range slices.Chunk(keys, keyBatch) {
		where, args := anyKey("ecosystem", "name", batch, []any{from, int64(n)})
		err := s.strings(ctx, seen, `SELECT DISTINCT image_digest FROM inventory_packages WHERE image_digest >= $1 AND `+where+
			` ORDER BY image_digest LIMIT $2`, args...)
		if err != nil {
			return err
		}
	}
	return nil
}

// OldInventories implements Store.
func (s *SQL) OldInventories(ctx context.Context, after string, n int) ([]string, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT DISTINCT image_digest FROM inventory_packages WHERE image_digest > $1
		ORDER BY image_digest LIMIT $2`, after, int64(n))
	if err != nil {
		return nil, fmt.Errorf("find old inventories: %w", err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var image string
		if err := rows.Scan(&image); err != nil {
			return nil, fmt.Errorf("find old inventories: %w", err)
		}
		out = append(out, image)
	}
	return out, rows.Err()
}

// Reindex implements Store.
func (s *SQL) Reindex(ctx context.Context, imageDigest, reportDigest string, packages []core.IndexedPackage) error {
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		if err := s.db.LockShared(ctx, tx, lockIndex); err != nil {
			return err
		}
		// The update takes the row's lock: a newer report waits, and then replaces this.
		var newest string
		err := tx.QueryRowContext(ctx, `UPDATE inventories SET report_digest = report_digest WHERE image_digest = $1
			RETURNING report_digest`, imageDigest).Scan(&newest)
		if errors.Is(err, sql.ErrNoRows) || err == nil && newest != reportDigest {
			return nil
		}
		if err != nil {
			return err
		}
		return s.putPackages(ctx, tx, imageDigest, packages)
	})
	if err != nil {
		return fmt.Errorf("index inventory again: %w", err)
	}
	return nil
}

// putPackages makes the packages the ones that an image is found by, and no others.
func (s *SQL) putPackages(ctx context.Context, tx *sql.Tx, image string, packages []core.IndexedPackage) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM inventory_packages WHERE image_digest = $1`, image); err != nil {
		return err
	}
	return s.putSets(ctx, tx, image, packages)
}
