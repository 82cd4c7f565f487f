// Package regularfile opens files that people name, and waits for nobody: opening a
// named pipe hangs until somebody writes into it, and reading a device may never end.
package regularfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// ErrNotRegular says that a name is that of a directory, a named pipe, a socket or a
// device.
var ErrNotRegular = errors.New("not a regular file")

// Open opens a regular file for reading. Links are followed.
func Open(name string) (*os.File, error) {
	return check(os.OpenFile(name, flags, 0))
}

// ReadFile reads a whole regular file, as os.ReadFile does.
func ReadFile(name string) ([]byte, error) {
	f, err := Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	return data, errors.Join(err, f.Close())
}

// OpenIn is Open for a file below a root.
func OpenIn(root *os.Root, name string) (*os.File, error) {
	return check(root.OpenFile(name, flags, 0))
}

// OpenRoot opens a directory.
func OpenRoot(name string) (*os.Root, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENOTDIR}
	}
	return os.OpenRoot(name)
}

// flags do not wait for a writer; for regular files O_NONBLOCK means nothing.
const flags = os.O_RDONLY | syscall.O_NONBLOCK

func check(f *os.File, err error) (*os.File, error) {
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", f.Name(), ErrNotRegular)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
