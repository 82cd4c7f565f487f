package fleet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecretFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	path, first, err := secretFile(dir, "webhook", "whsec_")
	if err != nil || !strings.HasPrefix(first, "whsec_") || len(first) < 40 {
		t.Fatalf("a new secret: %d bytes, %v", len(first), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its file: %v, %v", info, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%d files are left, %v", len(entries), err)
	}
	if _, again, err := secretFile(dir, "webhook", "whsec_"); err != nil || again != first {
		t.Errorf("the second start has another secret: %v", err)
	}
	if err := os.WriteFile(path, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, value, err := secretFile(dir, "webhook", ""); err == nil {
		t.Errorf("an empty file gives the secret %q", value)
	}
}
