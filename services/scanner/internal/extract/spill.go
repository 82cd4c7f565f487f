package extract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/semaphore"

	"github.com/seaworthy-dev/seaworthy/pkg/spool"
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

// spill writes a file to a disk. Nothing of an image is left there, however the
// process ends.
func (b *buffers) spill(ctx context.Context, head []byte, size int64, r io.Reader) (c *content, release func(), err error) {
	if err := b.disk.Acquire(ctx, size); err != nil {
		return nil, nil, fmt.Errorf("wait for room for a temporary file: %w", err)
	}
	file := spool.New(0)
	release = func() {
		_ = file.Close()
		b.disk.Release(size)
	}
	_, err = io.CopyN(file, io.MultiReader(bytes.NewReader(head), r), size)
	if err != nil {
		release()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, nil, err
	}
	return &content{at: file, size: size}, release, nil
}
