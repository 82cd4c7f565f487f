package oneshot

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/extract"
)

// Progress counts what was read of an image. Its zero value is ready, and may be
// asked by another goroutine than the scan's.
type Progress struct {
	layers, layersDone atomic.Int64
	bytes, bytesRead   atomic.Int64
}

// Counts tells how many layers of how many were read, and how many bytes of how
// many, compressed. All are 0 until the manifest is known.
func (p *Progress) Counts() (layersDone, layers, bytesRead, bytes int64) {
	return p.layersDone.Load(), p.layers.Load(), p.bytesRead.Load(), p.bytes.Load()
}

func (p *Progress) expect(layers []core.Descriptor) {
	p.layers.Store(int64(len(layers)))
	var n int64
	for _, l := range layers {
		n += l.Size
	}
	p.bytes.Store(n)
}

// counted is an opener whose streams count.
type counted struct {
	extract.Opener
	progress *Progress
}

// Layer implements extract.Opener.
func (c counted) Layer(ctx context.Context, ref imageref.Ref, d core.Descriptor) (io.ReadCloser, error) {
	r, err := c.Opener.Layer(ctx, ref, d)
	if err != nil {
		return nil, err
	}
	return &countedReader{r, c.progress}, nil
}

type countedReader struct {
	io.ReadCloser
	progress *Progress
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.progress.bytesRead.Add(int64(n))
	return n, err
}

func (c *countedReader) Close() error {
	c.progress.layersDone.Add(1)
	return c.ReadCloser.Close()
}
