package fleet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrUnsafe says that somebody else could have put what is in the data directory, or
// could change or read it: a certificate authority and signing keys are taken from there.
var ErrUnsafe = errors.New("the data directory is not safe")

const (
	// writable by others than the owner.
	writable = 0o022
	// open to others than the owner in any way.
	open = 0o077
)

// openDataDir makes the data directory, or checks the one that is there as ssh does its
// own: it and all that identities and keys are read from belong to this user, nobody
// else can write there, nobody else can read private files, and nothing is a symbolic
// link.
func openDataDir(dir string) error {
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		info, err = os.Lstat(dir)
	}
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if info.Mode()&fs.ModeSymlink == 0 && !info.IsDir() {
		return fmt.Errorf("data directory: %s is not a directory", dir)
	}
	if err := checkOurs(dir, info, writable); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		if err := checkOurs(path, info, writable); err != nil {
			return err
		}
		if info.IsDir() && private[e.Name()] {
			if err := checkPrivate(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// private are the folders whose files are read by this user alone, but for those whose
// names end as in public: certificates, public keys and what the signer notes of its keys
// are not secret, and the signer makes them readable.
var (
	private = map[string]bool{"certs": true, "secrets": true, "keys": true}
	public  = map[string]bool{".crt": true, ".pub": true, ".json": true, ".revoked": true}
)

func checkPrivate(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		info, err := e.Info()
		if err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		mask := fs.FileMode(open)
		if e.IsDir() || public[filepath.Ext(path)] {
			mask = writable
		}
		return checkOurs(path, info, mask)
	})
}

func checkOurs(path string, info fs.FileInfo, mask fs.FileMode) error {
	if info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%w: %s is a symbolic link; name the directory itself, or remove the link", ErrUnsafe, path)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || int(s.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: %s belongs to another user; use a directory of your own, or, if you trust its content, change its owner", ErrUnsafe, path)
	}
	if info.Mode().Perm()&mask != 0 {
		return fmt.Errorf("%w: %s is open to other users (mode %04o); unless they may have put something there, `chmod -R go-rwx` it",
			ErrUnsafe, path, info.Mode().Perm())
	}
	return nil
}
