package rpmdb

import (
	"errors"
	"fmt"
	"io"
)

// ErrMalformed says that the file is no rpm database, or a broken one.
var ErrMalformed = errors.New("malformed rpm database")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Package is an installed package.
type Package struct {
	Name    string
	Version string
	Release string
	// Epoch is 0 if the package has none.
	Epoch int
	Arch  string
	// SourceRPM is the name of the file of the source package, for example
	// `openssl-3.0.7-27.el9.src.rpm`.
	SourceRPM string
	License   string
	Vendor    string
	// ModularityLabel is `name:stream:version:context` for a package of a module.
	ModularityLabel string
	// Files are the absolute paths of the package's files. Only those that Read was
	// asked for.
	Files []string
}

const (
	// maxBlob is the size of the largest header of a package, rpm's own limit.
	maxBlob = 256 << 20
	// maxPage is the size of the largest page of SQLite and of Berkeley DB.
	maxPage = 64 << 10
)

// Read calls f for every package, in the order of the database. want tells which
// files of a package to keep; nil keeps none. An error of f ends the reading and is
// returned. A file that is no database is ErrMalformed.
func Read(r io.ReaderAt, size int64, want func(path string) bool, f func(*Package) error) error {
	head := make([]byte, 32)
	if size < int64(len(head)) {
		return malformed("it has %d bytes", size)
	}
	if _, err := r.ReadAt(head, 0); err != nil {
		return fmt.Errorf("read rpm database: %w", err)
	}
	left := newBudget(size)
	blob := func(b []byte) error {
		if err := left.record(len(b)); err != nil {
			return err
		}
		p, err := parseHeader(b, want, left)
		if err != nil {
			return err
		}
		return f(p)
	}
	switch {
	case isSQLite(head):
		return readSQLite(r, size, head, blob)
	case isNDB(head):
		return readNDB(r, size, head, blob)
	}
	if order := bdbOrder(head); order != nil {
		return readBDB(r, size, head, order, blob)
	}
	return malformed("it is neither SQLite nor NDB nor a Berkeley DB hash")
}

// readAt reads a piece of the file; a piece outside of it is malformed.
func readAt(r io.ReaderAt, size int64, b []byte, off int64) error {
	if off < 0 || off > size-int64(len(b)) {
		return malformed("it points outside of itself")
	}
	if n, err := r.ReadAt(b, off); n < len(b) {
		return fmt.Errorf("read rpm database: %w", err)
	}
	return nil
}

// budget is what is left to do for one database: it bounds the work by the size of the
// file, whatever its records and their headers point to. The readers find records that
// share bytes on their own; this holds for what they do not find too.
type budget struct {
	// bytes of records. Records are disjoint, so all of them together are not larger
	// than the file.
	bytes int64
	// paths is the length of the names of files. A directory is in a header once and in
	// the names of all its files.
	paths int64
}

const (
	pathsPerByte = 32
	// minPaths is for small databases.
	minPaths = 1 << 20
)

func newBudget(size int64) *budget { return &budget{bytes: size, paths: pathsPerByte*size + minPaths} }

func (b *budget) record(n int) error {
	if b.bytes -= int64(n); b.bytes < 0 {
		return malformed("its records are larger than itself: they share bytes")
	}
	return nil
}

func (b *budget) path(n int) error {
	if b.paths -= int64(n); b.paths < 0 {
		return malformed("the files of its packages have names of too many bytes")
	}
	return nil
}

// pages remembers which pages were read: each may be only once.
type pages []uint64

func newPages(n int64) pages { return make(pages, n/64+1) }

func (p pages) visit(n int64) error {
	if n < 0 || n/64 >= int64(len(p)) {
		return malformed("it points outside of itself")
	}
	if p[n/64]&(1<<(n%64)) != 0 {
		return malformed("two things in it share a place (%d)", n)
	}
	p[n/64] |= 1 << (n % 64)
	return nil
}

// visitAll visits a piece of neighbouring pages.
func (p pages) visitAll(from, n int64) error {
	for i := range n {
		if err := p.visit(from + i); err != nil {
			return err
		}
	}
	return nil
}
