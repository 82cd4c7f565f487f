package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sync/semaphore"
)

// buffers hold the files that extractors look into, in memory up to a size and in
// temporary files above. What all scans of the process hold is bounded.
type buffers struct {
	memory   *semaphore.Weighted
	disk     *semaphore.Weighted
	inMemory int64
}

func newBuffers(l Limits) *buffers {
	return &buffers{
		memory:   semaphore.NewWeighted(int64(l.MaxBuffered)),
		disk:     semaphore.NewWeighted(int64(l.MaxSpilled)),
		inMemory: int64(l.MaxInMemory),
	}
}

// hold reads a file. head is what was read of it already. release must be called
// when nobody looks at the content any more.
func (b *buffers) hold(ctx context.Context, head []byte, size int64, r io.Reader) (c *content, release func(), err error) {
	if size > b.inMemory {
		return b.spill(ctx, head, size, r)
	}
	if err := b.memory.Acquire(ctx, size); err != nil {
		return nil, nil, fmt.Errorf("wait for memory: %w", err)
	}
	held, err := readContent(head, size, r)
	if err != nil {
		b.memory.Release(size)
		return nil, nil, err
	}
	return inMemory(held), func() { b.memory.Release(size) }, nil
}

// spill writes a file to a disk. It has no name as soon as it is open, so that
// nothing of an image is left there, however the process ends.
func (b *buffers) spill(ctx context.Context, head []byte, size int64, r io.Reader) (c *content, release func(), err error) {
	if err := b.disk.Acquire(ctx, size); err != nil {
		return nil, nil, fmt.Errorf("wait for room for a temporary file: %w", err)
	}
	f, err := os.CreateTemp("", "seaworthy-scan-")
	if err != nil {
		b.disk.Release(size)
		return nil, nil, fmt.Errorf("%w: TMPDIR must be a directory that can be written to: %w", errDisk, err)
	}
	release = func() {
		_ = f.Close()
		b.disk.Release(size)
	}
	if err := os.Remove(f.Name()); err != nil {
		release()
		return nil, nil, fmt.Errorf("%w: %w", errDisk, err)
	}
	if _, err := f.Write(head); err != nil {
		release()
		return nil, nil, fmt.Errorf("%w: %w", errDisk, err)
	}
	_, err = io.CopyN(diskWriter{f}, r, size-int64(len(head)))
	if err != nil {
		release()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, nil, err
	}
	return &content{at: f, size: size}, release, nil
}

// diskWriter tells an error of the disk from one of the layer.
type diskWriter struct{ f *os.File }

// errDisk is an error of this machine, not of the image.
var errDisk = errors.New("write a temporary file")

func (w diskWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	if err != nil {
		return n, fmt.Errorf("%w: %w", errDisk, err)
	}
	return n, nil
}
