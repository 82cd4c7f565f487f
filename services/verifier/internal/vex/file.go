package vex

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
)

// bundleSuffix ends the names of files with signatures.
const bundleSuffix = ".sigstore.json"

// File is a signed document of a file.
type File struct {
	// Name of the file with the signature.
	Name string
	// Document is empty if it is the predicate of the bundle's statement.
	Document, Bundle []byte
}

// Load reads signed documents: the files named and every one of a directory (empty
// for none) whose name ends in .sigstore.json. The document that NAME.sigstore.json
// signs is beside it in NAME, or it is the predicate of the bundle's statement.
func Load(dir string, files []string) ([]File, error) {
	if dir != "" {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("read VEX documents: %w", err)
		}
		for _, e := range entries {
			if !e.IsDir() && strings.HasSuffix(e.Name(), bundleSuffix) && !strings.HasPrefix(e.Name(), ".") {
				files = append(files[:len(files):len(files)], filepath.Join(dir, e.Name()))
			}
		}
	}
	if len(files) > MaxDocuments {
		return nil, fmt.Errorf("read VEX documents: %d files, the limit is %d", len(files), MaxDocuments)
	}
	out := make([]File, 0, len(files))
	for _, name := range files {
		f := File{Name: name}
		var err error
		if f.Bundle, err = readLimited(name, 2*MaxDocument); err != nil {
			return nil, err
		}
		if document, ok := strings.CutSuffix(name, bundleSuffix); ok {
			f.Document, err = readLimited(document, MaxDocument)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
		out = append(out, f)
	}
	return out, nil
}

func readLimited(name string, limit int64) ([]byte, error) {
	f, err := regularfile.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read VEX document: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read VEX document: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read VEX document %s: more than %d bytes", name, limit)
	}
	return data, nil
}
