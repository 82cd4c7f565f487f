package fleet

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOpenDataDir refuses what somebody else may have planted.
func TestOpenDataDir(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(dir string) error
		// why it is refused; empty if it is not.
		why string
	}{
		"as it is made":           {func(string) error { return nil }, ""},
		"not there":               {os.RemoveAll, ""},
		"readable, files are not": {func(dir string) error { return os.Chmod(dir, 0o755) }, ""},
		"anybody writes":          {func(dir string) error { return os.Chmod(dir, 0o777) }, "is open to other users (mode 0777)"},
		"the group writes":        {func(dir string) error { return os.Chmod(dir, 0o770) }, "is open to other users (mode 0770)"},
		"a link": {func(dir string) error {
			return errors.Join(os.Rename(dir, dir+"-real"), os.Symlink(dir+"-real", dir))
		}, "is a symbolic link"},
		"a link in it":         {func(dir string) error { return os.Symlink("/etc", filepath.Join(dir, "nats")) }, "nats is a symbolic link"},
		"open database":        {func(dir string) error { return write(filepath.Join(dir, "signer.db"), 0o666) }, "signer.db is open"},
		"readable key":         {func(dir string) error { return write(filepath.Join(dir, "keys", "a.pem"), 0o644) }, "a.pem is open to other users (mode 0644)"},
		"readable CA key":      {func(dir string) error { return os.Chmod(filepath.Join(dir, "certs", "ca.key"), 0o640) }, "ca.key is open"},
		"linked key":           {func(dir string) error { return os.Symlink("/dev/null", filepath.Join(dir, "certs", "b.key")) }, "b.key is a symbolic link"},
		"readable certificate": {func(dir string) error { return os.Chmod(filepath.Join(dir, "certs", "ca.crt"), 0o644) }, ""},
		"readable public key":  {func(dir string) error { return write(filepath.Join(dir, "keys", "cosign.pub"), 0o644) }, ""},
		"readable record":      {func(dir string) error { return write(filepath.Join(dir, "keys", "key-a.json"), 0o644) }, ""},
		"readable revocation":  {func(dir string) error { return write(filepath.Join(dir, "keys", "key-a.revoked"), 0o644) }, ""},
		"writable public key":  {func(dir string) error { return write(filepath.Join(dir, "keys", "cosign.pub"), 0o666) }, "cosign.pub is open"},
		"another user's":       {func(dir string) error { return os.Chown(filepath.Join(dir, "secrets"), 65534, -1) }, "secrets belongs to another user"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			for _, file := range []string{"certs/ca.key", "certs/ca.crt", "secrets/webhook"} {
				if err := write(filepath.Join(dir, file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := tc.change(dir); errors.Is(err, fs.ErrPermission) {
				t.Skip("only root can give files away")
			} else if err != nil {
				t.Fatal(err)
			}
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

func write(path string, mode os.FileMode) error {
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600), os.Chmod(path, mode))
}
