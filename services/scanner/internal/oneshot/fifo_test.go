package oneshot

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
)

// TestPipesAreRefused opens targets that are named pipes, or have one in them: nobody
// ever writes into it.
func TestPipesAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"pipe", "index.json"} {
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe")
	for target, want := range map[string]error{
		"oci:" + dir: regularfile.ErrNotRegular, "oci:" + pipe: syscall.ENOTDIR, "tar:" + pipe: regularfile.ErrNotRegular,
		"docker-archive:" + pipe: regularfile.ErrNotRegular, "sbom:" + pipe: regularfile.ErrNotRegular,
	} {
		done := make(chan error, 1)
		go func() {
			if kind, file := split(target); kind == kindSBOM {
				_, _, err := fromSBOM(file, Options{})
				done <- err
				return
			}
			_, err := open(t.Context(), Options{Target: target})
			done <- err
		}()
		select {
		case err := <-done:
			if !errors.Is(err, want) {
				t.Errorf("%s: %v", target, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s waits for a writer", target)
		}
	}
}
