package extract

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/seaworthy-dev/seaworthy/pkg/spool"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// budget is what is left of the image-wide limits, shared by its layers.
type budget struct {
	limits  Limits
	bytes   atomic.Int64
	entries atomic.Int64
	names   atomic.Int64
	// packages found in files, before the layers are merged.
	packages atomic.Int64
	searched atomic.Int64
	// work is how long the processor was busy with the files, in nanoseconds.
	work *atomic.Int64
}

func newBudget(l Limits) *budget { return &budget{limits: l, work: &atomic.Int64{}} }

// maxSearched is how much of an image is searched for credentials, in bytes. Real
// images have some kilobytes of files that could hold some.
const maxSearched = 4 << 20

func (b *budget) spendSearch(n int64) bool { return b.searched.Add(n) <= maxSearched }

func (b *budget) spendBytes(n int64) error {
	if b.bytes.Add(n) > int64(b.limits.MaxImage) {
		return exceeded("the image is larger than %d bytes", b.limits.MaxImage)
	}
	return nil
}

func (b *budget) spendEntry(name string) error {
	if b.entries.Add(1) > int64(b.limits.MaxEntries) {
		return exceeded("the image has more than %d files", b.limits.MaxEntries)
	}
	if b.names.Add(int64(len(name))) > int64(b.limits.MaxNames) {
		return exceeded("the paths in the image are longer than %d bytes together", b.limits.MaxNames)
	}
	return nil
}

// layeredPackages is how many times MaxPackages the files of all layers may hold
// together: a layer that changes a package database repeats all of it.
const layeredPackages = 10

func (b *budget) spendPackages(n int) error {
	if b.packages.Add(int64(n)) > layeredPackages*int64(b.limits.MaxPackages) {
		return tooManyPackages(b.limits)
	}
	return nil
}

// source counts the compressed bytes and remembers the error of the blob, so that
// a broken connection is told from broken content.
type source struct {
	r   io.Reader
	n   int64
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// meter counts the decompressed bytes and enforces the limits on them.
type meter struct {
	r      io.Reader
	src    *source
	budget *budget
	n      int64
	err    error
	// hash is of the decompressed bytes, and set before the first of them is read.
	hash hash.Hash
}

func (m *meter) Read(p []byte) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	n, err := m.r.Read(p)
	m.n += int64(n)
	m.hash.Write(p[:n])
	if lerr := m.check(int64(n)); lerr != nil {
		m.err = lerr
		return 0, lerr
	}
	return n, err
}

// spend counts bytes that are read of the layer without having been in it.
func (m *meter) spend(n int64) error {
	m.n += n
	m.err = m.check(n)
	return m.err
}

func (m *meter) check(n int64) error {
	l := m.budget.limits
	if m.n > int64(l.MaxLayer) {
		return exceeded("a layer is larger than %d bytes", l.MaxLayer)
	}
	if m.n > ratioFrom && m.n > l.MaxRatio*m.src.n {
		return exceeded("a layer decompresses to more than %d times its size", l.MaxRatio)
	}
	return m.budget.spendBytes(n)
}

// layerStream is one layer, decompressed and metered.
type layerStream struct {
	*meter
	src   *source
	blob  io.ReadCloser
	close func()
}

// openStream decides by the content how a layer is compressed: media types are
// wrong often enough, the first bytes are not.
func openStream(blob io.ReadCloser, b *budget) (*layerStream, error) {
	src := &source{r: blob}
	s := &layerStream{src: src, blob: blob, close: func() {}}
	br := bufio.NewReaderSize(src, 64<<10)
	head, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read layer: %w", err)
	}
	var plain io.Reader = br
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		zr, err := gzip.NewReader(br)
		if err != nil {
			return nil, s.classify(err)
		}
		plain, s.close = zr, func() { _ = zr.Close() }
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		zr, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, s.classify(err)
		}
		plain, s.close = zr, zr.Close
	}
	s.meter = &meter{r: plain, src: src, budget: b}
	return s, nil
}

// drain reads what follows the tar archive, so that the checksum of the
// compression and the digest of the blob are verified over all of it.
func (s *layerStream) drain() error {
	if _, err := io.Copy(io.Discard, s); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, s.src)
	return err
}

// classify tells why reading failed: the registry, a limit, or the content.
func (s *layerStream) classify(err error) error {
	if s.src.err != nil {
		return s.src.err
	}
	if s.meter != nil && s.err != nil {
		return s.err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, spool.ErrDisk) || core.AsFault(err) != nil {
		return err
	}
	// Content that does not decode may be content that does not have its digest:
	// read on to the end, where the blob's reader says so.
	if _, derr := io.Copy(io.Discard, s.src); derr != nil {
		return derr
	}
	return core.NewFault(core.ReasonLayerCorrupt, "a layer cannot be read").WithCause(err)
}
