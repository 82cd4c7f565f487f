package cli

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/fleet"
)

func TestEmptyDemoDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	if err := emptyDemoDir(dir); err != nil {
		t.Fatalf("a new directory: %v", err)
	}
	state := filepath.Join(dir, "state")
	write(t, state)
	if err := emptyDemoDir(dir); err != nil {
		t.Fatalf("an earlier demo's: %v", err)
	}
	if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what the earlier demo left: %v", err)
	}

	// A fleet that runs in it, of a demo that stays or of `make run`, keeps its data.
	write(t, state)
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := emptyDemoDir(dir); !errors.Is(err, fleet.ErrInUse) {
		t.Errorf("a directory in use: %v, want ErrInUse", err)
	}
	if _, err := os.Stat(state); err != nil {
		t.Errorf("the running fleet lost its data: %v", err)
	}
}

func TestEmptyDemoDir_ofOthers(t *testing.T) {
	dir := t.TempDir()
	own := filepath.Join(dir, "thesis.txt")
	write(t, own)
	var usage *usageError
	if err := emptyDemoDir(dir); !errors.As(err, &usage) {
		t.Errorf("%v, want a usage error", err)
	}
	if _, err := os.Stat(own); err != nil {
		t.Errorf("a file that no demo made is gone: %v", err)
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}
