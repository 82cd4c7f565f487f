package snapshots

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
)

const (
	fileSuffix = ".snapshot"
	// keepOld is how long the file of a snapshot that is in use no more stays:
	// replicas may share the directory, and one of them may still be about to open it.
	keepOld = time.Hour
)

// Files is the directory of snapshot files. It is a cache: each file is named by the
// digest of its content and can be fetched again.
type Files struct{ dir string }

// OpenFiles makes the directory if there is none.
func OpenFiles(dir string) (*Files, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory of the advisory snapshots (advisories.directory): %w", err)
	}
	return &Files{dir: dir}, nil
}

func (f *Files) path(digest string) string {
	return filepath.Join(f.dir, filepath.Base(strings.TrimPrefix(digest, "sha256:"))+fileSuffix)
}

// Open opens the file of a snapshot, checked from the first byte to the last. Errors
// are os.ErrNotExist, advisory.ErrCorrupt and those of the file system.
func (f *Files) Open(digest string) (*advisory.Snapshot, error) {
	s, err := advisory.Open(f.path(digest), digest)
	if err != nil {
		return nil, err
	}
	return s, s.Verify()
}

// Keep writes the file of a snapshot and returns the snapshot that reads it in place.
func (f *Files) Keep(s *advisory.Snapshot) (*advisory.Snapshot, error) {
	digest := s.Info().Digest
	if have, err := f.Open(digest); err == nil {
		return have, nil
	}
	if err := s.WriteFile(f.path(digest)); err != nil {
		return nil, err
	}
	return advisory.Open(f.path(digest), digest)
}

// Tidy removes the files of other snapshots that were written a while ago, and what
// an interrupted write left.
func (f *Files) Tidy(inUse string, now time.Time) error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(f.dir, e.Name())
		left := strings.HasPrefix(e.Name(), ".snapshot-") && strings.HasSuffix(e.Name(), ".tmp")
		if path == f.path(inUse) || !left && !strings.HasSuffix(e.Name(), fileSuffix) {
			continue
		}
		info, err := e.Info()
		if err == nil && now.Sub(info.ModTime()) > keepOld {
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
