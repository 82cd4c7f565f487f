package extract

import (
	"context"
	"io"
	"io/fs"

	"github.com/google/osv-scalibr/extractor"
)

// maxRecord is the size of the largest record of a package database: a package's
// fields, the list of its files among them.
const maxRecord = 16 << 20

// recordReader reads a database whose records are separated by empty lines, and ends
// with an error at a record that is too large or one too many. The extractors read
// the database as a stream, but hold a record and the packages of all.
type recordReader struct {
	r     io.Reader
	limit int
	n     int
	size  int
	// line is the length of the current line so far.
	line int
}

func (r *recordReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	for _, c := range p[:n] {
		if c != '\n' {
			r.line++
			r.size++
			continue
		}
		if r.line == 0 && r.size > 0 {
			r.n, r.size = r.n+1, 0
		}
		r.line = 0
	}
	if r.size > maxRecord {
		return n, exceeded("a package database has a record of more than %d bytes", maxRecord)
	}
	if r.n > r.limit {
		return n, exceeded("a package database has more than %d packages", r.limit)
	}
	return n, err
}

// boundedRecords bounds what an extractor of a package database holds. What is over
// a limit is the reader's error, whatever the extractor makes of it.
func boundedRecords(e extractFrom, limit int) extractFunc {
	return func(ctx context.Context, path string, info fs.FileInfo, content *content) ([]*extractor.Package, error) {
		r := &recordReader{r: content.reader(), limit: limit}
		watched := &errorReader{r: r}
		pkgs, err := e(ctx, path, info, watched)
		if watched.err != nil {
			return nil, watched.err
		}
		return pkgs, err
	}
}

// errorReader remembers an error.
type errorReader struct {
	r   io.Reader
	err error
}

func (r *errorReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}
