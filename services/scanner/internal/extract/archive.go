package extract

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/google/osv-scalibr/extractor"
	"github.com/google/osv-scalibr/extractor/filesystem/language/java/archive"
)

const (
	// maxArchiveDepth is how deep archives within archives are followed.
	maxArchiveDepth = 8
	// maxArchiveEntries is the number of files in an archive and those within it.
	maxArchiveEntries = 1_000_000
	// maxOpened is what the archives within an archive have together, decompressed: the
	// extractor holds them in memory.
	maxOpened = 256 << 20
	// maxArchiveText is the size of a manifest or pom.properties in an archive.
	maxArchiveText = 16 << 20
)

// boundedArchive measures an archive before the extractor opens it. The
// extractor believes the sizes that the archive declares; here the members it
// would open are really decompressed, within the limits. A file that is called
// an archive and has not even an end record cannot be loaded by Java either and
// holds no packages.
func boundedArchive(next extractFunc, maxBytes int64) extractFunc {
	return func(ctx context.Context, path string, info fs.FileInfo, content *content) ([]*extractor.Package, error) {
		left := archiveBudget{bytes: maxBytes, entries: maxArchiveEntries}
		err := left.measure(ctx, content.reader(), content.size, 1)
		if errors.Is(err, zip.ErrFormat) {
			if is, serr := hasEndRecord(content.reader()); serr != nil || !is {
				return nil, serr
			}
		}
		if err != nil {
			return nil, err
		}
		return next(ctx, path, info, content)
	}
}

// errOver is a file that is over a limit. It makes the report incomplete, also where
// other errors mean that the file is no package.
var errOver = errors.New("over a limit")

// endRecord starts the end record of every zip archive.
var endRecord = []byte("PK\x05\x06")

// boundedWheel measures the texts of an archive of Python before the extractor opens
// it, and bounds those that lie in the open.
func boundedWheel(next extractFunc) extractFunc {
	return func(ctx context.Context, path string, info fs.FileInfo, content *content) ([]*extractor.Package, error) {
		zr, err := zip.NewReader(content.reader(), content.size)
		if err != nil {
			if content.size > maxArchiveText {
				return nil, fmt.Errorf("%w: metadata of more than %d bytes", errOver, maxArchiveText)
			}
			return next(ctx, path, info, content)
		}
		left := archiveBudget{bytes: maxOpened}
		for _, f := range zr.File {
			if !strings.HasSuffix(f.Name, "METADATA") && !strings.HasSuffix(f.Name, "PKG-INFO") {
				continue
			}
			if _, err := left.open(f, maxArchiveText); err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name, err)
			}
		}
		return next(ctx, path, info, content)
	}
}

// hasEndRecord looks for an end record anywhere in a file.
func hasEndRecord(r io.Reader) (bool, error) {
	buf := make([]byte, 64<<10)
	kept := 0
	for {
		n, err := io.ReadFull(r, buf[kept:])
		if bytes.Contains(buf[:kept+n], endRecord) {
			return true, nil
		}
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = nil
			}
			return false, err
		}
		// The record may begin at the end of this piece.
		kept = copy(buf, buf[len(buf)-len(endRecord)+1:])
	}
}

type archiveBudget struct {
	bytes   int64
	entries int
}

func (b *archiveBudget) measure(ctx context.Context, content io.ReaderAt, size int64, depth int) error {
	if depth > maxArchiveDepth {
		return fmt.Errorf("archives nested deeper than %d", maxArchiveDepth)
	}
	zr, err := zip.NewReader(content, size)
	if err != nil {
		return err
	}
	if b.entries -= len(zr.File); b.entries < 0 {
		return fmt.Errorf("archive has more than %d files", maxArchiveEntries)
	}
	for _, f := range zr.File {
		if err := ctx.Err(); err != nil {
			return err
		}
		if archive.IsArchive(f.Name) {
			if err := b.nested(ctx, f, depth); err != nil {
				return fmt.Errorf("%s: %w", f.Name, err)
			}
			continue
		}
		if isArchiveText(f.Name) {
			if _, err := b.open(f, maxArchiveText); err != nil {
				return fmt.Errorf("%s: %w", f.Name, err)
			}
		}
	}
	return nil
}

func (b *archiveBudget) nested(ctx context.Context, f *zip.File, depth int) error {
	inner, err := b.open(f, b.bytes)
	if err != nil {
		return err
	}
	err = b.measure(ctx, bytes.NewReader(inner), int64(len(inner)), depth+1)
	if errors.Is(err, zip.ErrFormat) && !bytes.Contains(inner, endRecord) {
		return nil
	}
	return err
}

func (b *archiveBudget) open(f *zip.File, limit int64) ([]byte, error) {
	rc, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	defer rc.Close()
	limit = min(limit, b.bytes)
	content, err := io.ReadAll(io.LimitReader(rc, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("%w: archive decompresses to more than is allowed", errOver)
	}
	b.bytes -= int64(len(content))
	return content, nil
}

func isArchiveText(name string) bool {
	base := strings.ToLower(path.Base(name))
	return base == "manifest.mf" || base == "pom.properties"
}
