//go:build unix

package advisory

import (
	"math"
	"os"
	"syscall"

	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
)

// mapFile maps a file into memory, to be read only.
func mapFile(path string) (data []byte, unmap func(), err error) {
	f, err := regularfile.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }() // the mapping stays
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	size := info.Size()
	if size < headerSize || size > MaxFile || size > math.MaxInt {
		return nil, nil, corrupt("%s has %d bytes", path, size)
	}
	data, err = syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, nil, &os.PathError{Op: "mmap", Path: path, Err: err}
	}
	return data, func() { _ = syscall.Munmap(data) }, nil
}
