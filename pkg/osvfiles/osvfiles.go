// Package osvfiles finds the OSV records in files, archives and directory
// trees, one at a time, so that a whole database never lies in memory.
package osvfiles

import (
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
)

// Limits. A record over MaxRecord is given with an error and skipped; an archive
// over MaxEntries is an error as a whole.
const (
	MaxRecord  = 4 << 20
	MaxEntries = 2_000_000
)

// ErrNothing says that a path holds no file with records.
var ErrNothing = errors.New("no *.json file and no *.zip archive in it")

// MaxScores is the size of the largest CSV file, decompressed.
const MaxScores = 64 << 20

// Record is one record as it was found, or a whole CSV file of scores.
type Record struct {
	// Name says where it came from, for example `Go/all.zip!GO-2024-1.json`.
	Name string
	// JSON is its content, not looked at.
	JSON []byte
	// CSV is the content of a *.csv or *.csv.gz file instead.
	CSV []byte
	// Err says why this record could not be read; JSON is nil then. The others
	// can be.
	Err error
}

// Records goes through the paths: a *.json file is a record, a *.zip archive
// holds one per *.json entry, a *.csv or *.csv.gz file is given whole, a directory
// is searched for all of these in the order of names. The second value is an error that ends the search.
func Records(paths []string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for _, p := range paths {
			if !records(p, yield) {
				return
			}
		}
	}
}

func records(root string, yield func(Record, error) bool) bool {
	info, err := os.Stat(root)
	if err != nil {
		return fail(yield, err)
	}
	if !info.IsDir() {
		if kindOf(root) == "" {
			return fail(yield, fmt.Errorf("%s is neither a directory, a *.json or *.csv file nor a *.zip archive", root))
		}
		return file(root, filepath.Base(root), yield)
	}
	found, goOn := false, true
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.Type().IsRegular() || kindOf(p) == "" {
			return nil
		}
		found = true
		name, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if !file(p, filepath.ToSlash(name), yield) {
			goOn = false
			return fs.SkipAll
		}
		return nil
	})
	switch {
	case !goOn:
		return false
	case err != nil:
		return fail(yield, err)
	case !found:
		return fail(yield, fmt.Errorf("%s: %w", root, ErrNothing))
	default:
		return true
	}
}

func fail(yield func(Record, error) bool, err error) bool {
	yield(Record{}, err)
	return false
}

// Recognizes tells by its name whether a file can hold records or scores.
func Recognizes(name string) bool { return kindOf(name) != "" }

func kindOf(name string) string {
	name = strings.ToLower(filepath.ToSlash(name))
	switch ext := path.Ext(name); {
	case ext == ".json", ext == ".zip", ext == ".csv":
		return ext
	case strings.HasSuffix(name, ".csv.gz"):
		return ".csv"
	default:
		return ""
	}
}

// file gives the records of one file; false ends the search.
func file(p, name string, yield func(Record, error) bool) bool {
	if kindOf(p) == ".zip" {
		return archive(p, name, yield)
	}
	f, err := regularfile.Open(p)
	if err != nil {
		return fail(yield, err)
	}
	defer func() { _ = f.Close() }() // only read
	if kindOf(p) == ".csv" {
		return yield(scores(name, f), nil)
	}
	return yield(read(name, f), nil)
}

// scores reads a whole CSV file, compressed or not.
func scores(name string, r io.Reader) Record {
	if strings.HasSuffix(strings.ToLower(name), ".gz") {
		zr, err := gzip.NewReader(r)
		if err != nil {
			return Record{Name: name, Err: err}
		}
		r = zr
	}
	data, err := io.ReadAll(io.LimitReader(r, MaxScores+1))
	switch {
	case err != nil:
		return Record{Name: name, Err: err}
	case len(data) > MaxScores:
		return Record{Name: name, Err: fmt.Errorf("larger than %d bytes", MaxScores)}
	default:
		return Record{Name: name, CSV: data}
	}
}

func archive(p, name string, yield func(Record, error) bool) bool {
	f, err := regularfile.Open(p)
	if err != nil {
		return fail(yield, err)
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return fail(yield, err)
	}
	z, err := zip.NewReader(f, info.Size())
	if err != nil {
		return fail(yield, fmt.Errorf("%s: %w", p, err))
	}
	if len(z.File) > MaxEntries {
		return fail(yield, fmt.Errorf("%s has %d entries, the limit is %d", p, len(z.File), MaxEntries))
	}
	for _, entry := range z.File {
		if entry.FileInfo().IsDir() || kindOf(entry.Name) != ".json" {
			continue
		}
		if !yield(readEntry(name+"!"+entry.Name, entry), nil) {
			return false
		}
	}
	return true
}

func readEntry(name string, entry *zip.File) Record {
	r, err := entry.Open()
	if err != nil {
		return Record{Name: name, Err: err}
	}
	defer func() { _ = r.Close() }() // the read checks the sum
	return read(name, r)
}

// read reads at most MaxRecord bytes, whatever the archive's directory says.
func read(name string, r io.Reader) Record {
	data, err := io.ReadAll(io.LimitReader(r, MaxRecord+1))
	switch {
	case err != nil:
		return Record{Name: name, Err: err}
	case len(data) > MaxRecord:
		return Record{Name: name, Err: fmt.Errorf("larger than %d bytes", MaxRecord)}
	default:
		return Record{Name: name, JSON: data}
	}
}
