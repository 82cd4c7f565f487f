package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// imageBatch is how many sets of images one statement reads, when images are looked
// at one after the other.
const imageBatch = 2000

// ImagesWith implements Store.
func (s *SQL) ImagesWith(ctx context.Context, keys []core.PackageKey, from string, n int) ([]string, error) {
	out, err := s.imagesWith(ctx, keys, from, n)
	if err != nil {
		return nil, fmt.Errorf("find images: %w", err)
	}
	return out, nil
}

func (s *SQL) imagesWith(ctx context.Context, keys []core.PackageKey, from string, n int) ([]string, error) {
	seen := map[string]bool{}
	if err := s.oldImages(ctx, seen, keys, from, n); err != nil {
		return nil, err
	}
	packages, err := s.packagesWith(ctx, keys)
	if err != nil {
		return nil, err
	}
	if len(packages) > 0 {
		blocks, many, err := blocksWith(ctx, s.db, packages)
		if err != nil {
			return nil, err
		}
		if many {
			err = s.commonImages(ctx, seen, idSetOf(packages), from, n)
		} else if len(blocks) > 0 {
			err = s.rareImages(ctx, seen, packages, from, n)
		}
		if err != nil {
			return nil, err
		}
	}
	out := slices.Sorted(maps.Keys(seen))
	return out[:min(len(out), n)], nil
}

// packagesWith are the ids of the packages that have one of the keys, by the name that
// advisories use or by their own.
func (s *SQL) packagesWith(ctx context.Context, keys []core.PackageKey) ([]int64, error) {
	var out []int64
	for batch := range slices.Chunk(keys, keyBatch) {
		for _, column := range []string{"name", "own_name"} {
			where, args := anyKey("base", column, batch, nil)
			rows, err := s.db.QueryContext(ctx, `SELECT id FROM packages WHERE `+where, args...)
			if err != nil {
				return nil, err
			}
			some, err := ids(rows)
			if err != nil {
				return nil, err
			}
			out = append(out, some...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// rareImages finds images by the sets that have the packages.
func (s *SQL) rareImages(ctx context.Context, seen map[string]bool, packages []int64, from string, n int) error {
	sets, err := setsWith(ctx, s.db, packages)
	if err != nil {
		return err
	}
	return s.strings(ctx, seen, `SELECT DISTINCT image_digest FROM inventory_sets WHERE set_id `+inIDs+
		` AND image_digest >= $2 ORDER BY image_digest LIMIT $3`, idObject(sets), from, int64(n))
}

// commonImages looks at images in order until enough have one of the packages.
func (s *SQL) commonImages(ctx context.Context, seen map[string]bool, wanted idSet, from string, n int) error {
	known := map[int64]bool{}
	found := map[string]bool{}
	for set := int64(0); len(found) < n; {
		image, last, read, err := s.lookAtImages(ctx, known, found, wanted, from, set)
		if err != nil {
			return err
		}
		if read < imageBatch {
			break
		}
		from, set = image, last+1
	}
	maps.Copy(seen, found)
	return nil
}

// lookAtImages looks at one batch, from a set of an image on. It returns the last set
// that it looked at, and how many.
func (s *SQL) lookAtImages(ctx context.Context, known map[int64]bool, found map[string]bool, wanted idSet, from string, set int64) (image string, last int64, read int, err error) {
	rows, err := s.db.QueryContext(ctx, `SELECT i.image_digest, i.set_id, p.packages FROM inventory_sets i
		JOIN package_sets p ON p.id = i.set_id WHERE i.image_digest >= $1 AND (i.image_digest > $1 OR i.set_id >= $2)
		ORDER BY i.image_digest, i.set_id LIMIT $3`, from, set, int64(imageBatch))
	if err != nil {
		return "", 0, 0, err
	}
	defer rows.Close()
	var content sql.RawBytes
	for ; rows.Next(); read++ {
		if err := rows.Scan(&image, &last, &content); err != nil {
			return "", 0, 0, err
		}
		meets, ok := known[last]
		if !ok {
			if meets, err = wanted.meets(content); err != nil {
				return "", 0, 0, err
			}
			known[last] = meets
		}
		if meets {
			found[image] = true
		}
	}
	return image, last, read, rows.Err()
}

func place(n int) string { return "$" + strconv.Itoa(n) }
