package regularfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
)

func TestReadFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "pipe")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := regularfile.ReadFile(file); err != nil || string(data) != "text" {
		t.Errorf("ReadFile() = %q, %v", data, err)
	}
	for _, name := range []string{pipe, dir, "/dev/zero"} {
		if data, err := regularfile.ReadFile(name); !errors.Is(err, regularfile.ErrNotRegular) {
			t.Errorf("ReadFile(%s) = %d bytes, %v", name, len(data), err)
		}
	}
	if _, err := regularfile.ReadFile(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}
