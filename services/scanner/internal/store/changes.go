package store

import (
	"context"
	"database/sql"
	"slices"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

const (
	// manyKeys is the number of changed packages from which on the table of package
	// versions is read whole: asking for each would take longer.
	manyKeys = 2_000
	// manyBlocks is the number of blocks from which on all sets are read.
	manyBlocks = 256
)

// askChanged asks to match again what a snapshot changes: the images with a package
// version whose findings differ.
func askChanged(ctx context.Context, tx *sql.Tx, n *StoredSnapshot) error {
	if n.ChangedAll {
		_, err := tx.ExecContext(ctx, ask+`SELECT image_digest, 0, 0 FROM inventories WHERE image_digest <> '' ORDER BY image_digest`+askAgain)
		return err
	}
	if err := askOld(ctx, tx, n.Changed, n.ChangedEcosystems); err != nil {
		return err
	}
	changed, err := changedPackages(ctx, tx, n)
	if err != nil {
		return err
	}
	for _, base := range n.ChangedEcosystems {
		rows, err := tx.QueryContext(ctx, `SELECT id FROM packages WHERE base = $1`, base)
		if err != nil {
			return err
		}
		some, err := ids(rows)
		if err != nil {
			return err
		}
		changed = append(changed, some...)
	}
	slices.Sort(changed)
	changed = slices.Compact(changed)
	sets, err := setsWith(ctx, tx, changed)
	if err != nil {
		return err
	}
	return askSets(ctx, tx, sets)
}

// askSets asks for the images of sets, in their order, so that the queue grows at its
// end: in the order of sets each row would be another page.
func askSets(ctx context.Context, tx *sql.Tx, sets []int64) error {
	_, err := tx.ExecContext(ctx, ask+`SELECT DISTINCT image_digest, 0, 0 FROM inventory_sets
		WHERE set_id `+inIDs+` ORDER BY image_digest`+askAgain, idObject(sets))
	return err
}

// changedPackages are the ids of the package versions whose findings differ.
func changedPackages(ctx context.Context, q querier, n *StoredSnapshot) ([]int64, error) {
	const columns = `SELECT id, base, ecosystem, name, version, stream FROM packages`
	// Packages that differ in their own names alone have the same findings.
	known := map[core.PackageVersion]bool{}
	wanted := make(map[core.PackageKey]bool, len(n.Changed))
	for _, k := range n.Changed {
		wanted[k] = true
	}
	var out []int64
	judge := func(query string, args ...any) error {
		rows, err := q.QueryContext(ctx, query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id int64
			var base string
			var v core.PackageVersion
			if err := rows.Scan(&id, &base, &v.Ecosystem, &v.Name, &v.Version, &v.Stream); err != nil {
				return err
			}
			if !wanted[core.PackageKey{Ecosystem: base, Name: v.Name}] {
				continue
			}
			differs, ok := known[v]
			if !ok {
				differs = n.Differs == nil || n.Differs(v)
				known[v] = differs
			}
			if differs {
				out = append(out, id)
			}
		}
		return rows.Err()
	}
	if len(n.Changed) > manyKeys {
		return out, judge(columns)
	}
	for rest := n.Changed; len(rest) > 0; {
		batch := rest[:min(len(rest), keyBatch)]
		rest = rest[len(batch):]
		where, args := anyKey("base", "name", batch, nil)
		if err := judge(columns+` WHERE `+where, args...); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// setsWith are the ids of the sets that have one of the packages. The few blocks that
// have them are read, or all sets at once.
func setsWith(ctx context.Context, q querier, packages []int64) ([]int64, error) {
	if len(packages) == 0 {
		return nil, nil
	}
	blocks, many, err := blocksWith(ctx, q, packages)
	if err != nil {
		return nil, err
	}
	wanted := idSetOf(packages)
	if many {
		return readSets(ctx, q, wanted, nil, `SELECT id, packages FROM package_sets`)
	}
	var out []int64
	for i := 0; i < len(blocks); {
		// Blocks in a row are read in one go.
		first := i
		for i++; i < len(blocks) && blocks[i] == blocks[i-1]+1; i++ {
		}
		out, err = readSets(ctx, q, wanted, out, `SELECT id, packages FROM package_sets WHERE id >= $1 AND id < $2`,
			blocks[first]*blockSets, (blocks[i-1]+1)*blockSets)
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// blocksWith are the blocks that have one of the packages, in order; many tells that
// there are more than are worth to be read one by one.
func blocksWith(ctx context.Context, q querier, packages []int64) (blocks []int64, many bool, err error) {
	for batch := range slices.Chunk(packages, keyBatch) {
		args := make([]any, 0, len(batch)+1)
		for _, id := range batch {
			args = append(args, id)
		}
		args = append(args, int64(manyBlocks+1))
		in := placeholders(1, len(batch))
		rows, err := q.QueryContext(ctx, `SELECT DISTINCT block FROM package_blocks WHERE package_id IN `+in+` LIMIT `+place(len(args)), args...)
		if err != nil {
			return nil, false, err
		}
		some, err := ids(rows)
		if err != nil {
			return nil, false, err
		}
		blocks = append(blocks, some...)
		slices.Sort(blocks)
		if blocks = slices.Compact(blocks); len(blocks) > manyBlocks {
			return nil, true, nil
		}
	}
	return blocks, false, nil
}

func readSets(ctx context.Context, q querier, wanted idSet, out []int64, query string, args ...any) ([]int64, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var id int64
	var content sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&id, &content); err != nil {
			return nil, err
		}
		found, err := wanted.meets(content)
		if err != nil {
			return nil, err
		}
		if found {
			out = append(out, id)
		}
	}
	return out, rows.Err()
}
