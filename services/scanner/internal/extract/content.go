package extract

import (
	"bytes"
	"fmt"
	"io"
)

// content is what a wanted file holds. It is used by one goroutine, by one extractor
// after the other.
type content struct {
	at   io.ReaderAt
	size int64
	// memory is the content if it is held in memory.
	memory []byte
	// work is what an extractor has done with it so far.
	work *work
}

func inMemory(b []byte) *content {
	return &content{at: bytes.NewReader(b), size: int64(len(b)), memory: b}
}

// reader reads from the start. It also reads at any place.
func (c *content) reader() *io.SectionReader { return io.NewSectionReader(c.readerAt(), 0, c.size) }

// readerAt reads at any place.
func (c *content) readerAt() io.ReaderAt {
	if c.work == nil {
		return c.at
	}
	return workReader{at: c.at, work: c.work}
}

// maxParsed is the size of the largest file that is parsed as a whole, such as a
// package.json: its values take several times its size in memory.
const maxParsed = 16 << 20

// utf8BOM is what some editors begin a text with. Most ecosystems ignore it.
var utf8BOM = []byte("\xef\xbb\xbf")

// withoutBOM leaves out a byte order mark that a text begins with.
func (c *content) withoutBOM() (*content, error) {
	head := make([]byte, min(c.size, int64(len(utf8BOM))))
	if n, err := c.at.ReadAt(head, 0); n < len(head) {
		return nil, fmt.Errorf("read: %w", err)
	}
	if !bytes.Equal(head, utf8BOM) {
		return c, nil
	}
	n := int64(len(utf8BOM))
	out := &content{at: io.NewSectionReader(c.at, n, c.size-n), size: c.size - n, work: c.work}
	if c.memory != nil {
		out.memory = c.memory[n:]
	}
	return out, nil
}

// bytes returns all of it. Only for extractors that have a maxSize.
func (c *content) bytes() ([]byte, error) {
	if c.memory != nil {
		return c.memory, nil
	}
	b := make([]byte, c.size)
	if n, err := c.at.ReadAt(b, 0); int64(n) < c.size {
		return nil, fmt.Errorf("read: %w", err)
	}
	return b, nil
}
