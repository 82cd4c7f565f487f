package rpmdb

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
)

func isSQLite(head []byte) bool { return bytes.HasPrefix(head, []byte("SQLite format 3\x00")) }

// Kinds of pages of a table.
const (
	sqliteInterior = 0x05
	sqliteLeaf     = 0x0d
	// sqliteHeader is the size of the file's header, at the start of its first page.
	sqliteHeader = 100
	// maxTreeDepth is deeper than a table of the largest file can be.
	maxTreeDepth = 40
)

// sqlite reads tables of an SQLite file: https://www.sqlite.org/fileformat.html.
type sqlite struct {
	r        io.ReaderAt
	size     int64
	page     int64
	usable   int64
	visited  pages
	overflow []byte
}

// readSQLite calls f with the blob of every row of the table Packages.
func readSQLite(r io.ReaderAt, size int64, head []byte, f func([]byte) error) error {
	page := int64(binary.BigEndian.Uint16(head[16:]))
	if page == 1 {
		page = maxPage
	}
	usable := page - int64(head[20])
	if page < 512 || page&(page-1) != 0 || usable < 480 {
		return malformed("pages of %d bytes", page)
	}
	s := &sqlite{r: r, size: size, page: page, usable: usable, visited: newPages(size/page + 1), overflow: make([]byte, page)}
	root := int64(0)
	err := s.table(1, 0, func(record []byte) error {
		// type, name, tbl_name, rootpage, sql
		values, err := columns(record, 4)
		if err != nil {
			return err
		}
		if string(values[0].data) == "table" && strings.EqualFold(string(values[1].data), "Packages") {
			root = values[3].number()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if root <= 0 {
		return malformed("no table Packages")
	}
	return s.table(root, 0, func(record []byte) error {
		// hnum, blob
		values, err := columns(record, 2)
		if err != nil {
			return err
		}
		return f(values[1].data)
	})
}

// table calls f with every record of the tree under a page.
func (s *sqlite) table(number int64, depth int, f func(record []byte) error) error {
	if depth > maxTreeDepth {
		return malformed("a table deeper than %d", maxTreeDepth)
	}
	if err := s.visited.visit(number); err != nil {
		return err
	}
	page := make([]byte, s.page)
	if err := readAt(s.r, s.size, page, (number-1)*s.page); err != nil {
		return err
	}
	head := page
	if number == 1 {
		head = page[sqliteHeader:]
	}
	cells := int64(binary.BigEndian.Uint16(head[3:]))
	pointers := head[8:]
	kind := head[0]
	if kind == sqliteInterior {
		pointers = head[12:]
	}
	if kind != sqliteInterior && kind != sqliteLeaf || cells*2 > int64(len(pointers)) {
		return malformed("page %d is no table", number)
	}
	// Which bytes of the page are part of a cell: a table of pointers to one cell is small
	// and would be read as many records.
	taken := newPages(s.usable - 1)
	for i := range cells {
		at := int64(binary.BigEndian.Uint16(pointers[2*i:]))
		if at >= s.usable {
			return malformed("a cell outside of its page")
		}
		cell := page[at:s.usable]
		var err error
		switch {
		case kind == sqliteLeaf:
			err = s.leaf(cell, func(n int64) error { return taken.visitAll(at, n) }, f)
		case len(cell) < 4:
			err = malformed("a short cell")
		default:
			// A child that two cells name is found by its page.
			err = s.table(int64(binary.BigEndian.Uint32(cell)), depth+1, f)
		}
		if err != nil {
			return err
		}
	}
	if kind == sqliteInterior {
		return s.table(int64(binary.BigEndian.Uint32(head[8:])), depth+1, f)
	}
	return nil
}

// leaf reads one record: its size, its row id, its content, which may go on in a
// chain of overflow pages.
//
// take is told how long the cell is before its record is read.
func (s *sqlite) leaf(cell []byte, take func(int64) error, f func([]byte) error) error {
	size, n := uvarint(cell)
	if n == 0 {
		return malformed("a short cell")
	}
	_, m := uvarint(cell[n:])
	if m == 0 || size > maxBlob {
		return malformed("a record of %d bytes", size)
	}
	head := int64(n + m)
	cell = cell[n+m:]
	total := int64(size)
	local := total
	if largest := s.usable - 35; total > largest {
		smallest := (s.usable-12)*32/255 - 23
		local = smallest + (total-smallest)%(s.usable-4)
		if local > largest {
			local = smallest
		}
	}
	if local > int64(len(cell)) {
		return malformed("a record outside of its page")
	}
	if err := take(head + local); err != nil {
		return err
	}
	if local == total {
		return f(cell[:local])
	}
	if local+4 > int64(len(cell)) || total > s.size {
		return malformed("a record of %d bytes", total)
	}
	record := append(make([]byte, 0, total), cell[:local]...)
	next := int64(binary.BigEndian.Uint32(cell[local:]))
	for int64(len(record)) < total {
		if err := s.visited.visit(next); err != nil {
			return err
		}
		if err := readAt(s.r, s.size, s.overflow, (next-1)*s.page); err != nil {
			return err
		}
		rest := min(total-int64(len(record)), s.usable-4)
		record = append(record, s.overflow[4:4+rest]...)
		next = int64(binary.BigEndian.Uint32(s.overflow))
	}
	return f(record)
}

// value is one column of a record.
type value struct {
	data    []byte
	integer bool
}

func (v value) number() int64 {
	if !v.integer || len(v.data) > 8 {
		return -1
	}
	n := int64(0)
	for _, b := range v.data {
		n = n<<8 | int64(b)
	}
	return n
}

// columns returns the first n columns of a record.
func columns(record []byte, n int) ([]value, error) {
	size, used := uvarint(record)
	if used == 0 || size > uint64(len(record)) || size < uint64(used) {
		return nil, malformed("a record without columns")
	}
	types, body := record[used:size], record[size:]
	var out []value
	for len(out) < n {
		t, used := uvarint(types)
		if used == 0 {
			return nil, malformed("a record with %d columns", len(out))
		}
		types = types[used:]
		v, length := value{}, uint64(0)
		switch {
		case t >= 12:
			length = (t - 12) / 2
		case t >= 10:
			return nil, malformed("a column of an unknown type")
		case t >= 8:
			// The numbers 0 and 1 have no bytes.
			v = value{integer: true, data: []byte{byte(t - 8)}}
		case t == 7:
			length = 8
		case t > 0:
			v.integer, length = true, [...]uint64{0, 1, 2, 3, 4, 6, 8}[t]
		}
		if length > uint64(len(body)) {
			return nil, malformed("a column longer than its record")
		}
		if v.data == nil {
			v.data = body[:length]
		}
		body = body[length:]
		out = append(out, v)
	}
	return out, nil
}

// uvarint reads SQLite's own form of a number of up to nine bytes, the highest
// first; n is 0 if b ends before it does.
func uvarint(b []byte) (v uint64, n int) {
	for i := range min(len(b), 9) {
		if i == 8 {
			return v<<8 | uint64(b[i]), 9
		}
		v = v<<7 | uint64(b[i]&0x7f)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}
