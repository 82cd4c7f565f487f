package regularfile_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
)

// TestOpen opens what is not a regular file, which must not wait for anybody.
func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(path("file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"link": "file", "fifo-link": "fifo"} {
		if err := os.Symlink(to, path(link)); err != nil {
			t.Fatal(err)
		}
	}
	var listen net.ListenConfig
	if l, err := listen.Listen(t.Context(), "unix", path("socket")); err != nil {
		t.Fatal(err)
	} else {
		defer l.Close()
	}
	root, err := regularfile.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for name, ok := range map[string]bool{"file": true, "link": true, "fifo": false, "fifo-link": false, "socket": false, ".": false, "none": false} {
			for in, open := range map[string]func() (*os.File, error){
				"by path": func() (*os.File, error) { return regularfile.Open(path(name)) },
				"in root": func() (*os.File, error) { return regularfile.OpenIn(root, name) },
			} {
				f, err := open()
				if (err == nil) != ok {
					t.Errorf("%s %s: %v", name, in, err)
				}
				if err == nil {
					f.Close()
				}
				if name == "fifo" && !errors.Is(err, regularfile.ErrNotRegular) {
					t.Errorf("%s %s: %v", name, in, err)
				}
			}
		}
		if _, err := regularfile.Open("/dev/zero"); !errors.Is(err, regularfile.ErrNotRegular) {
			t.Errorf("a device: %v", err)
		}
		if _, err := regularfile.OpenRoot(path("fifo")); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("a pipe for a directory: %v", err)
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it waits for a writer")
	}
}
