package layertest

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// Database returns the files of an image with a real package database: the folder has
// os-release, and apk-installed or dpkg-status.gz.
func Database(tb testing.TB, dir string) []Entry {
	tb.Helper()
	release, err := os.ReadFile(filepath.Join(dir, "os-release"))
	if err != nil {
		tb.Fatal(err)
	}
	entries := []Entry{File("etc/os-release", string(release))}
	content, err := os.ReadFile(filepath.Join(dir, "apk-installed"))
	if err == nil {
		return append(entries, File("lib/apk/db/installed", string(content)))
	}
	if !errors.Is(err, os.ErrNotExist) {
		tb.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "dpkg-status.gz"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	if content, err = io.ReadAll(zr); err != nil {
		tb.Fatal(err)
	}
	return append(entries, File("var/lib/dpkg/status", string(content)))
}
