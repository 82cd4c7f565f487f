// Package spool holds a document while it is worked on: in memory up to a size, and
// above that in a temporary file that has no name, so that nothing of it is left
// however the process ends.
package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrDisk says that a temporary file could not be written or read: an error of this
// machine and not of the document. Trying again later may help.
var ErrDisk = errors.New("temporary file")

// ErrClosed says that a closed spool was used.
var ErrClosed = errors.New("the spool is closed")

// Spool is written once, from begin to end, and then read as often as is wanted, by
// several readers at once. The file is in the directory that TMPDIR names.
type Spool struct {
	limit  int
	memory []byte
	file   *os.File
	size   int64
	closed bool
}

// New returns an empty spool that keeps at most inMemory bytes in memory.
func New(inMemory int) *Spool { return &Spool{limit: inMemory} }

// Write implements io.Writer. Errors are ErrDisk and ErrClosed.
func (s *Spool) Write(p []byte) (int, error) {
	if s.closed {
		return 0, ErrClosed
	}
	if s.file == nil && len(s.memory)+len(p) <= s.limit {
		s.memory = append(s.memory, p...)
		s.size += int64(len(p))
		return len(p), nil
	}
	if s.file == nil {
		if err := s.spill(); err != nil {
			return 0, err
		}
	}
	n, err := s.file.Write(p)
	s.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("%w: there must be room in TMPDIR: %w", ErrDisk, err)
	}
	return n, nil
}

// spill moves what is in memory to a file.
func (s *Spool) spill() error {
	f, err := os.CreateTemp("", "seaworthy-spool-")
	if err != nil {
		return fmt.Errorf("%w: TMPDIR must be a directory that can be written to: %w", ErrDisk, err)
	}
	err = os.Remove(f.Name())
	if err == nil {
		_, err = f.Write(s.memory)
	}
	if err != nil {
		return fmt.Errorf("%w: there must be room in TMPDIR: %w", ErrDisk, errors.Join(err, f.Close()))
	}
	s.file, s.memory = f, nil
	return nil
}

// Size is the number of bytes that were written.
func (s *Spool) Size() int64 { return s.size }

// InMemory reports whether there is no file.
func (s *Spool) InMemory() bool { return s.file == nil }

// ReadAt implements io.ReaderAt.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case s.closed:
		return 0, ErrClosed
	case off < 0:
		return 0, fmt.Errorf("read at %d", off)
	case s.file != nil:
		n, err := s.file.ReadAt(p, off)
		if err != nil && !errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: %w", ErrDisk, err)
		}
		return n, err
	case off >= s.size:
		return 0, io.EOF
	}
	n := copy(p, s.memory[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Map gives all of the content in one piece, without having it on the heap: a file is
// mapped into memory. It is only read, and not after release was called.
func (s *Spool) Map() (content []byte, release func(), err error) {
	switch {
	case s.closed:
		return nil, nil, ErrClosed
	case s.file == nil:
		return s.memory, func() {}, nil
	}
	content, release, err = mapFile(s.file, s.size)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrDisk, err)
	}
	return content, release, nil
}

// Close gives memory and file back. It may be called more than once.
func (s *Spool) Close() error {
	s.closed, s.memory = true, nil
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}
