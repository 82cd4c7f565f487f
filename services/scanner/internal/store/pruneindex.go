package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
)

// PruneIndex implements Store.
func (s *SQL) PruneIndex(ctx context.Context, n int) (int64, error) {
	var removed int64
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		// A set that is about to be given to an image must not be taken for unused.
		if err := s.db.Lock(ctx, tx, lockIndex); err != nil {
			return err
		}
		left, err := removeSets(ctx, tx, n)
		if err != nil {
			return err
		}
		removed = 0
		packages := map[int64]bool{}
		for _, block := range slices.Sorted(maps.Keys(left)) {
			removed += left[block].sets
			if err := tidyBlock(ctx, tx, block, left[block].packages); err != nil {
				return err
			}
			maps.Copy(packages, left[block].packages)
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM packages WHERE id `+inIDs+`
			AND NOT EXISTS (SELECT 1 FROM package_blocks b WHERE b.package_id = packages.id)`, idObject(slices.Sorted(maps.Keys(packages))))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("prune index: %w", err)
	}
	return removed, nil
}

// leavings are the packages of the sets that were removed from a block.
type leavings struct {
	sets     int64
	packages map[int64]bool
}

// removeSets removes at most n sets that no image has, and tells by block what was in
// them.
func removeSets(ctx context.Context, tx *sql.Tx, n int) (map[int64]*leavings, error) {
	rows, err := tx.QueryContext(ctx, `DELETE FROM package_sets WHERE id IN (SELECT id FROM package_sets p
		WHERE NOT EXISTS (SELECT 1 FROM inventory_sets i WHERE i.set_id = p.id) ORDER BY id LIMIT $1) RETURNING id, packages`, int64(n))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[int64]*leavings{}
	for rows.Next() {
		var id int64
		var content sql.RawBytes
		if err := rows.Scan(&id, &content); err != nil {
			return nil, err
		}
		l := out[id/blockSets]
		if l == nil {
			l = &leavings{packages: map[int64]bool{}}
			out[id/blockSets] = l
		}
		l.sets++
		err := eachID(content, func(id int64) bool { l.packages[id] = true; return true })
		if err != nil {
			return nil, err
		}
	}
	return out, rows.Err()
}

// tidyBlock forgets that a block has packages, those apart that its other sets have.
func tidyBlock(ctx context.Context, tx *sql.Tx, block int64, packages map[int64]bool) error {
	gone := maps.Clone(packages)
	rows, err := tx.QueryContext(ctx, `SELECT packages FROM package_sets WHERE id >= $1 AND id < $2`, block*blockSets, (block+1)*blockSets)
	if err != nil {
		return err
	}
	defer rows.Close()
	var content sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&content); err != nil {
			return err
		}
		if err := eachID(content, func(id int64) bool { delete(gone, id); return true }); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM package_blocks WHERE package_id `+inIDs+` AND block = $2`, idObject(slices.Sorted(maps.Keys(gone))), block)
	return err
}
