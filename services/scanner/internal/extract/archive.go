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
	"github.com/google/osv-scalibr/purl"
)

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
			pkgs, err := next(ctx, path, info, content)
			if err != nil || len(pkgs) == 0 {
				if p := fromDirectory(path); p != nil {
					return []*extractor.Package{p}, nil
				}
			}
			return pkgs, err
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

// fromDirectory takes name and version from where pip installs metadata, as Python itself does:
// `requests-2.30.0.dist-info/METADATA`. Metadata without a name does not keep a package from
// being imported.
func fromDirectory(p string) *extractor.Package {
	dir, file := path.Split(p)
	base := path.Base(dir)
	if strings.HasSuffix(file, ".egg-info") {
		base = file
	}
	stem, ok := strings.CutSuffix(base, ".dist-info")
	if !ok {
		stem, ok = strings.CutSuffix(base, ".egg-info")
	}
	parts := strings.Split(stem, "-") // an egg has the version of Python behind its own
	if !ok || len(parts) < 2 || parts[0] == "" || digits(parts[1]) == 0 {
		return nil
	}
	return &extractor.Package{Name: parts[0], Version: parts[1], PURLType: purl.TypePyPi, Location: extractor.LocationFromPath(p)}
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
	// others asks for packages of Python and npm, too.
	others bool
}

func (b *archiveBudget) open(f *zip.File, limit int64) ([]byte, error) {
	rc, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	defer rc.Close()
	// Decompressing takes time for what goes in, too: a stream of empty blocks gives nothing, and
	// any number of entries may have it in common.
	limit = min(limit, b.bytes)
	if f.CompressedSize64 > uint64(b.bytes) {
		return nil, fmt.Errorf("%w: archive decompresses to more than is allowed", errOver)
	}
	content, err := io.ReadAll(io.LimitReader(rc, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("%w: archive decompresses to more than is allowed", errOver)
	}
	b.bytes -= max(int64(len(content)), int64(f.CompressedSize64))
	return content, nil
}
