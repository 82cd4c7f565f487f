package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// blockSets is how many sets a block has: set i is in block i/blockSets.
const blockSets = 64

// packageSet is what one layer brought of an image.
type packageSet struct {
	id       int64
	digest   digest
	packages []*core.IndexedPackage
}

type digest = [sha256.Size]byte

// appendPackage appends what tells a package from others.
func appendPackage(b []byte, p *core.IndexedPackage) []byte {
	for _, s := range []string{p.Ecosystem, p.Name, p.Version, p.Stream, p.OwnName} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return b
}

// setsOf makes the sets of an inventory. Packages come in the order of reports, so that
// layers which brought the same give one set.
func setsOf(packages []core.IndexedPackage) []packageSet {
	byLayer := map[string][]*core.IndexedPackage{}
	for i := range packages {
		p := &packages[i]
		byLayer[p.Layer] = append(byLayer[p.Layer], p)
	}
	seen := map[digest]bool{}
	var out []packageSet
	var text []byte
	for _, layer := range slices.Sorted(maps.Keys(byLayer)) {
		text = text[:0]
		for _, p := range byLayer[layer] {
			text = appendPackage(text, p)
		}
		s := packageSet{digest: sha256.Sum256(text), packages: byLayer[layer]}
		if !seen[s.digest] {
			seen[s.digest] = true
			out = append(out, s)
		}
	}
	return out
}

// putSets makes the packages the ones that an image is found by. Sets that are known
// cost a look each, and an image that has its sets already is not written at all.
func (s *SQL) putSets(ctx context.Context, tx *sql.Tx, image string, packages []core.IndexedPackage) error {
	sets := setsOf(packages)
	var digests []any
	for i := range sets {
		digests = append(digests, sets[i].digest[:])
	}
	known, err := idsByDigest(ctx, tx, `package_sets`, digests)
	if err != nil {
		return err
	}
	if len(known) < len(sets) {
		// Another scan may have stored them since; from here on none can.
		if err := s.db.Lock(ctx, tx, lockSets); err != nil {
			return err
		}
		if known, err = idsByDigest(ctx, tx, `package_sets`, digests); err != nil {
			return err
		}
	}
	var unknown []*packageSet
	want := map[int64]bool{}
	for i := range sets {
		if id, ok := known[sets[i].digest]; ok {
			want[id] = true
		} else {
			unknown = append(unknown, &sets[i])
		}
	}
	if err := newSets(ctx, tx, unknown); err != nil {
		return err
	}
	for _, s := range unknown {
		want[s.id] = true
	}
	return linkSets(ctx, tx, image, want)
}

func linkSets(ctx context.Context, tx *sql.Tx, image string, want map[int64]bool) error {
	rows, err := tx.QueryContext(ctx, `SELECT set_id FROM inventory_sets WHERE image_digest = $1`, image)
	if err != nil {
		return err
	}
	have, err := ids(rows)
	if err != nil {
		return err
	}
	for _, id := range have {
		if want[id] {
			delete(want, id)
			continue
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM inventory_sets WHERE set_id = $1 AND image_digest = $2`, id, image); err != nil {
			return err
		}
	}
	var values [][]any
	for _, id := range slices.Sorted(maps.Keys(want)) {
		values = append(values, []any{id, image})
	}
	return insert(ctx, tx, `inventory_sets (set_id, image_digest)`, values)
}

// newSets stores sets and the packages that no set had before. The caller has lockSets.
func newSets(ctx context.Context, tx *sql.Tx, sets []*packageSet) error {
	if len(sets) == 0 {
		return nil
	}
	members := map[digest]*core.IndexedPackage{}
	digests := make([][]digest, len(sets))
	var text []byte
	for i, s := range sets {
		for _, p := range s.packages {
			text = appendPackage(text[:0], p)
			d := sha256.Sum256(text)
			members[d] = p
			digests[i] = append(digests[i], d)
		}
	}
	packages, err := packageIDs(ctx, tx, members)
	if err != nil {
		return err
	}
	last, err := reserve(ctx, tx, `package_sets`, len(sets))
	if err != nil {
		return err
	}
	var rows, blocks [][]any
	placed := map[[2]int64]bool{}
	for i, s := range sets {
		s.id = last - int64(len(sets)-1-i)
		var ids []int64
		for _, d := range digests[i] {
			id := packages[d]
			ids = append(ids, id)
			if at := [2]int64{id, s.id / blockSets}; !placed[at] {
				placed[at] = true
				blocks = append(blocks, []any{at[0], at[1]})
			}
		}
		rows = append(rows, []any{s.id, s.digest[:], encodeIDs(ids)})
	}
	if err := insert(ctx, tx, `package_sets (id, digest, packages)`, rows); err != nil {
		return err
	}
	return insert(ctx, tx, `package_blocks (package_id, block)`, blocks)
}

// packageIDs returns the ids of packages; those without one get one.
func packageIDs(ctx context.Context, tx *sql.Tx, members map[digest]*core.IndexedPackage) (map[digest]int64, error) {
	order := slices.SortedFunc(maps.Keys(members), func(a, b digest) int { return bytes.Compare(a[:], b[:]) })
	digests := make([]any, len(order))
	for i := range order {
		digests[i] = order[i][:]
	}
	out, err := idsByDigest(ctx, tx, `packages`, digests)
	if err != nil || len(out) == len(order) {
		return out, err
	}
	last, err := reserve(ctx, tx, `packages`, len(order)-len(out))
	if err != nil {
		return nil, err
	}
	next := last - int64(len(order)-len(out)) + 1
	var rows [][]any
	for i, d := range order {
		if _, ok := out[d]; ok {
			continue
		}
		p := members[d]
		rows = append(rows, []any{next, order[i][:], p.Base, p.Name, p.OwnName, p.Ecosystem, p.Version, p.Stream})
		out[d] = next
		next++
	}
	return out, insert(ctx, tx, `packages (id, digest, base, name, own_name, ecosystem, version, stream)`, rows)
}

// reserve gives out n ids and returns the last.
func reserve(ctx context.Context, tx *sql.Tx, table string, n int) (last int64, err error) {
	err = tx.QueryRowContext(ctx, `UPDATE index_ids SET last = last + $1 WHERE name = $2 RETURNING last`, int64(n), table).Scan(&last)
	return last, err
}

func idsByDigest(ctx context.Context, tx *sql.Tx, table string, digests []any) (map[digest]int64, error) {
	out := make(map[digest]int64, len(digests))
	err := inBatches(digests, func(in string, args []any) error {
		rows, err := tx.QueryContext(ctx, `SELECT digest, id FROM `+table+` WHERE digest IN `+in, args...) //nolint:gosec // constants and placeholders
		if err != nil {
			return err
		}
		defer rows.Close()
		var d sql.RawBytes
		var id int64
		for rows.Next() {
			if err := rows.Scan(&d, &id); err != nil {
				return err
			}
			if len(d) != sha256.Size {
				return errIndex
			}
			out[digest(d)] = id
		}
		return rows.Err()
	})
	return out, err
}

var errIndex = errors.New("the index of packages is damaged")

// maxArguments is how many values one statement carries. SQLite takes quadratic time to
// read placeholders.
const maxArguments = 256

// inIDs is a condition on ids, as many as there may be; its argument is an idObject.
const inIDs = `IN (SELECT CAST(key AS BIGINT) FROM json_each($1))`

// idObject are ids as the members of a JSON object, which both databases read as a
// table: a list of arguments would be as many statements as it has hundreds.
func idObject(ids []int64) string {
	b := []byte{'{'}
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strconv.AppendInt(append(b, '"'), id, 10), `":0`...)
	}
	return string(append(b, '}'))
}

// inBatches calls f with values as the arguments of a list, many at a time. Lists are
// filled up to a power of two by repeating a value, so that there are few texts of a
// statement to prepare.
func inBatches(values []any, f func(in string, args []any) error) error {
	for rest := values; len(rest) > 0; {
		batch := rest[:min(len(rest), maxArguments)]
		rest = rest[len(batch):]
		size := 1
		for size < len(batch) {
			size *= 2
		}
		args := slices.Clone(batch)
		for len(args) < size {
			args = append(args, batch[0])
		}
		if err := f(placeholders(1, size), args); err != nil {
			return err
		}
	}
	return nil
}

func placeholders(first, n int) string {
	b := []byte{'('}
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, '$'), int64(first+i), 10)
	}
	return string(append(b, ')'))
}

// insert adds rows that are not there yet.
func insert(ctx context.Context, tx *sql.Tx, into string, rows [][]any) error {
	for rest := rows; len(rest) > 0; {
		batch := rest[:min(len(rest), maxArguments/len(rest[0]))]
		rest = rest[len(batch):]
		var text strings.Builder
		args := make([]any, 0, len(batch)*len(batch[0]))
		text.WriteString(`INSERT INTO ` + into + ` VALUES `)
		for i, row := range batch {
			if i > 0 {
				text.WriteByte(',')
			}
			text.WriteString(placeholders(len(args)+1, len(row)))
			args = append(args, row...)
		}
		text.WriteString(` ON CONFLICT DO NOTHING`)
		if _, err := tx.ExecContext(ctx, text.String(), args...); err != nil {
			return err
		}
	}
	return nil
}

func ids(rows *sql.Rows) ([]int64, error) {
	defer rows.Close()
	var out []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		out = append(out, id)
	}
	return out, rows.Err()
}

// encodeIDs makes the stored form of a set: ids in order, each as its distance from
// the one before.
func encodeIDs(ids []int64) []byte {
	slices.Sort(ids)
	var out []byte
	var last int64
	for _, id := range slices.Compact(ids) {
		out = binary.AppendUvarint(out, uint64(id-last))
		last = id
	}
	return out
}

// eachID calls f for every id of a stored set, until it returns false.
func eachID(content []byte, f func(id int64) bool) error {
	var id int64
	for len(content) > 0 {
		step, n := uint64(content[0]), 1
		if step >= 0x80 {
			if step, n = binary.Uvarint(content); n <= 0 {
				return errIndex
			}
		}
		content = content[n:]
		if id += int64(step); id < 0 {
			return errIndex
		}
		if !f(id) {
			return nil
		}
	}
	return nil
}

// idSet is a set of dense ids, a bit each.
type idSet []uint64

func idSetOf(ids []int64) idSet {
	if len(ids) == 0 {
		return nil
	}
	out := make(idSet, slices.Max(ids)/64+1)
	for _, id := range ids {
		out[id/64] |= 1 << (id % 64)
	}
	return out
}

func (s idSet) has(id int64) bool { return id/64 < int64(len(s)) && s[id/64]&(1<<(id%64)) != 0 }

// meets tells whether a stored set has one of the ids.
func (s idSet) meets(content []byte) (found bool, err error) {
	err = eachID(content, func(id int64) bool {
		found = s.has(id)
		return !found
	})
	return found, err
}
