package rpmdb_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/rpmdb"
)

// rpmHeader is the header of a package with files in one long directory.
func rpmHeader(name string, files int) []byte {
	var index, data []byte
	entry := func(tag, kind, count uint32, content []byte) {
		for len(data)%4 != 0 {
			data = append(data, 0)
		}
		for _, v := range []uint32{tag, kind, uint32(len(data)), count} {
			index = binary.BigEndian.AppendUint32(index, v)
		}
		data = append(data, content...)
	}
	entry(1000, 6, 1, []byte(name+"\x00"))
	entry(1001, 6, 1, []byte("1\x00"))
	if files > 0 {
		entry(1118, 8, 1, []byte(strings.Repeat("/d", 2000)+"/\x00"))
		entry(1117, 8, uint32(files), bytes.Repeat([]byte("f\x00"), files))
		entry(1116, 4, uint32(files), make([]byte, 4*files))
	}
	out := binary.BigEndian.AppendUint32(nil, uint32(len(index)/16))
	out = binary.BigEndian.AppendUint32(out, uint32(len(data)))
	return slices.Concat(out, index, data)
}

func sqliteVarint(v int) []byte {
	if v < 128 {
		return []byte{byte(v)}
	}
	return []byte{byte(v>>7) | 0x80, byte(v & 0x7f)}
}

// sqliteCell is a cell of a leaf: its columns are a number, or a text or blob.
func sqliteCell(types []int, columns ...[]byte) []byte {
	var kinds []byte
	for _, t := range types {
		kinds = append(kinds, sqliteVarint(t)...)
	}
	record := slices.Concat(sqliteVarint(len(kinds)+1), kinds, slices.Concat(columns...))
	return slices.Concat(sqliteVarint(len(record)), []byte{1}, record)
}

const sqlitePage = 64 << 10

// sqliteDatabase has one leaf with the cells of packages at the given places.
func sqliteDatabase(cells map[int][]byte, pointers []int) []byte {
	db := make([]byte, 2*sqlitePage)
	copy(db, "SQLite format 3\x00")
	binary.BigEndian.PutUint16(db[16:], 1) // 64 KiB
	schema := sqliteCell([]int{13 + 2*5, 13 + 2*8, 13 + 2*8, 1, 13}, []byte("table"), []byte("Packages"), []byte("Packages"), []byte{2})
	leaf := func(page, head []byte, cells map[int][]byte, pointers []int) {
		head[0] = 0x0d
		binary.BigEndian.PutUint16(head[3:], uint16(len(pointers)))
		for i, at := range pointers {
			binary.BigEndian.PutUint16(head[8+2*i:], uint16(at))
		}
		for at, cell := range cells {
			copy(page[at:], cell)
		}
	}
	leaf(db, db[100:], map[int][]byte{60000: schema}, []int{60000})
	leaf(db[sqlitePage:], db[sqlitePage:], cells, pointers)
	return db
}

func packageCell(blob []byte) []byte { return sqliteCell([]int{0, 12 + 2*len(blob)}, blob) }

// bdbDatabase has one page whose pairs are at the given places.
func bdbDatabase(page []byte, offsets []int) []byte {
	db := make([]byte, len(page), 2*len(page))
	binary.LittleEndian.PutUint32(db[12:], 0x061561)
	binary.LittleEndian.PutUint32(db[20:], uint32(len(page)))
	db[25] = 8
	page[25] = 13
	binary.LittleEndian.PutUint16(page[20:], uint16(len(offsets)))
	for i, at := range offsets {
		binary.LittleEndian.PutUint16(page[26+2*i:], uint16(at))
	}
	return append(db, page...)
}

// ndbDatabase has a blob every step bytes; each says that it goes on for length bytes.
func ndbDatabase(n, step, length int, header []byte) []byte {
	const slots = 4096
	db := make([]byte, slots+n*step+length)
	copy(db, "RpmP")
	binary.LittleEndian.PutUint32(db[12:], 1)
	for slot := 2; slot < slots/16; slot++ {
		copy(db[16*slot:], "Slot")
		if i := slot - 2; i < n {
			at := slots + i*step
			binary.LittleEndian.PutUint32(db[16*slot+4:], uint32(i+1))
			binary.LittleEndian.PutUint32(db[16*slot+8:], uint32(at/16))
			copy(db[at:], "BlbS")
			binary.LittleEndian.PutUint32(db[at+4:], uint32(i+1))
			binary.LittleEndian.PutUint32(db[at+12:], uint32(length))
			copy(db[at+16:], header)
		}
	}
	return db
}

// meter counts what is read of a database.
type meter struct {
	*bytes.Reader
	bytes int64
}

func (m *meter) ReadAt(p []byte, off int64) (int, error) {
	m.bytes += int64(len(p))
	return m.Reader.ReadAt(p, off)
}

// TestAliased: records that share bytes are refused, so that no database costs more than
// its size; the same records side by side are read.
func TestAliased(t *testing.T) {
	small := rpmHeader("p", 0)
	cell := packageCell(small)
	// Its blob goes on after the header, with another cell.
	outer := packageCell(slices.Concat(small, cell))
	many := rpmHeader("p", 4000)
	apart := func(cell []byte, n int) (map[int][]byte, []int) {
		cells, at := map[int][]byte{}, make([]int, n)
		for i := range at {
			at[i] = sqlitePage - (i+1)*len(cell)
			cells[at[i]] = cell
		}
		return cells, at
	}
	sqliteApart, sqlitePointers := apart(cell, 100)
	bdbPage := func() []byte {
		page := make([]byte, 4096)
		at := 4096 - 5 - 1 - len(small)
		page[at] = 1
		copy(page[at+1:], small)
		page[at+1+len(small)] = 1
		page[4095] = 1 // the key is not that of the counter
		return page
	}
	bdbValue := 4096 - 5 - 1 - len(small)
	bdbAt := []int{bdbValue + 1 + len(small), bdbValue}
	for name, tc := range map[string]struct {
		db []byte
		// packages is how many a sound database has; 0 is a malformed one.
		packages int
	}{
		"SQLite":                      {sqliteDatabase(sqliteApart, sqlitePointers), 100},
		"SQLite, one cell":            {sqliteDatabase(map[int][]byte{65000: cell}, slices.Repeat([]int{65000}, 30000)), 0},
		"SQLite, cells in each other": {sqliteDatabase(map[int][]byte{60000: outer}, []int{60000, 60000 + len(outer) - len(cell)}), 0},
		"Berkeley DB":                 {bdbDatabase(bdbPage(), bdbAt), 1},
		"Berkeley DB, one pair":       {bdbDatabase(bdbPage(), slices.Repeat(bdbAt, 900)), 0},
		"NDB":                         {ndbDatabase(200, 256, 240, small), 200},
		"NDB, each over the rest":     {ndbDatabase(200, 256, 200*256, small), 0},
		"NDB, many files":             {ndbDatabase(60, len(many)&^15+32, len(many), many), 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := &meter{Reader: bytes.NewReader(tc.db)}
			packages, names := 0, int64(0)
			err := rpmdb.Read(m, int64(len(tc.db)), func(string) bool { return true }, func(p *rpmdb.Package) error {
				packages++
				for _, f := range p.Files {
					names += int64(len(f))
				}
				return nil
			})
			if tc.packages > 0 && (err != nil || packages != tc.packages) {
				t.Errorf("%d packages, error %v", packages, err)
			}
			if tc.packages == 0 && !errors.Is(err, rpmdb.ErrMalformed) {
				t.Errorf("%d packages, error %v", packages, err)
			}
			size := int64(len(tc.db))
			if m.bytes > 2*size || int64(packages) > size/int64(len(small)) || names > 32*size+1<<20 {
				t.Errorf("of %d bytes %d were read, with %d packages and %d bytes of names", size, m.bytes, packages, names)
			}
			t.Logf("%d packages, %d bytes read, %d bytes of names: %v", packages, m.bytes, names, err)
		})
	}
}
