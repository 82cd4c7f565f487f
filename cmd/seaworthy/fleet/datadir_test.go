package fleet

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOpenDataDir refuses what somebody else may have planted.
func TestOpenDataDir(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(t *testing.T, dir string)
		// why it is refused; empty if it is not.
		why string
	}{
		"as it is made":           {func(*testing.T, string) {}, ""},
		"not there":               {func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) }, ""},
		"readable, files are not": {func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o755)) }, ""},
		"anybody writes":          {func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o777)) }, "is open to other users (mode 0777)"},
		"the group writes":        {func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o770)) }, "is open to other users (mode 0770)"},
		"a link": {func(t *testing.T, dir string) {
			must(t, os.Rename(dir, dir+"-real"))
			must(t, os.Symlink(dir+"-real", dir))
		}, "is a symbolic link"},
		"a link in it":         {func(t *testing.T, dir string) { must(t, os.Symlink("/etc", filepath.Join(dir, "nats"))) }, "nats is a symbolic link"},
		"open database":        {func(t *testing.T, dir string) { write(t, filepath.Join(dir, "signer.db"), 0o666) }, "signer.db is open"},
		"readable key":         {func(t *testing.T, dir string) { write(t, filepath.Join(dir, "keys", "a.pem"), 0o644) }, "a.pem is open to other users (mode 0644)"},
		"readable CA key":      {func(t *testing.T, dir string) { must(t, os.Chmod(filepath.Join(dir, "certs", "ca.key"), 0o640)) }, "ca.key is open"},
		"linked key":           {func(t *testing.T, dir string) { must(t, os.Symlink("/dev/null", filepath.Join(dir, "certs", "b.key"))) }, "b.key is a symbolic link"},
		"readable certificate": {func(t *testing.T, dir string) { must(t, os.Chmod(filepath.Join(dir, "certs", "ca.crt"), 0o644)) }, ""},
		"readable public key":  {func(t *testing.T, dir string) { write(t, filepath.Join(dir, "keys", "cosign.pub"), 0o644) }, ""},
		"readable record":      {func(t *testing.T, dir string) { write(t, filepath.Join(dir, "keys", "key-a.json"), 0o644) }, ""},
		"readable revocation":  {func(t *testing.T, dir string) { write(t, filepath.Join(dir, "keys", "key-a.revoked"), 0o644) }, ""},
		"writable public key":  {func(t *testing.T, dir string) { write(t, filepath.Join(dir, "keys", "cosign.pub"), 0o666) }, "cosign.pub is open"},
		"another user's": {func(t *testing.T, dir string) {
			if err := os.Chown(filepath.Join(dir, "secrets"), 65534, -1); err != nil {
				t.Skip("only root can give files away")
			}
		}, "secrets belongs to another user"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			for _, file := range []string{"certs/ca.key", "certs/ca.crt", "secrets/webhook"} {
				write(t, filepath.Join(dir, file), 0o600)
			}
			tc.change(t, dir)
			err := openDataDir(dir)
			if tc.why == "" {
				if info, statErr := os.Stat(dir); err != nil || statErr != nil || info.Mode().Perm()&0o022 != 0 {
					t.Errorf("%v, %v", err, statErr)
				}
			} else if !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), tc.why) {
				t.Errorf("%v, want %q", err, tc.why)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, []byte("x"), 0o600))
	must(t, os.Chmod(path, mode))
}
