package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
)

// maxFiles bounds the files of one directory.
const maxFiles = 1000

// File is a file of policies as it was read.
type File struct {
	// Name is its path, or what else tells people where it is from.
	Name string
	Data []byte
}

// Source says which policies come with the configuration.
type Source struct {
	// Builtin names policy packs.
	Builtin []string
	// Dir is a directory whose .yaml and .yml files are read, not its subdirectories;
	// empty for none.
	Dir string
	// Files are single files.
	Files []string
}

// Read reads everything and compiles nothing.
func (s Source) Read() ([]File, error) {
	var out []File
	for _, name := range s.Builtin {
		data, err := Pack(name)
		if err != nil {
			return nil, err
		}
		out = append(out, File{Name: "built-in " + name, Data: data})
	}
	files := s.Files
	if s.Dir != "" {
		found, err := policyFiles(s.Dir)
		if err != nil {
			return nil, err
		}
		files = append(files[:len(files):len(files)], found...)
	}
	for _, file := range files {
		data, err := readLimited(file)
		if err != nil {
			return nil, err
		}
		out = append(out, File{Name: file, Data: data})
	}
	return out, nil
}

// Fingerprint is equal for files of the same names and contents.
func Fingerprint(files []File) [sha256.Size]byte {
	h := sha256.New()
	part := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	for _, f := range files {
		part([]byte(f.Name))
		part(f.Data)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func policyFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read policy directory: %w", err)
	}
	var out []string
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if !e.IsDir() && (ext == ".yaml" || ext == ".yml") && !strings.HasPrefix(e.Name(), ".") {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	if len(out) > maxFiles {
		return nil, fmt.Errorf("policy directory %s: %d files, more than %d", dir, len(out), maxFiles)
	}
	return out, nil
}

// readLimited reads a file; a byte more than the limit is kept for Parse to refuse.
func readLimited(file string) ([]byte, error) {
	f, err := regularfile.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	return data, nil
}
