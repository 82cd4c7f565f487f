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
	blob := func(b []byte) error {
		p, err := parseHeader(b, want)
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

// pages remembers which pages were read: each may be only once.
type pages []uint64

func newPages(n int64) pages { return make(pages, n/64+1) }

func (p pages) visit(n int64) error {
	if n < 0 || n/64 >= int64(len(p)) {
		return malformed("it points outside of itself")
	}
	if p[n/64]&(1<<(n%64)) != 0 {
		return malformed("page %d is part of two things", n)
	}
	p[n/64] |= 1 << (n % 64)
	return nil
}
