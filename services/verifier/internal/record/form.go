package record

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"sync"

	"github.com/klauspost/compress/s2"
)

// The stored form of evidence is
//
//	magic, version    4 bytes
//	digest            32 bytes: the SHA-256 of the content
//	4 sections        each 12 bytes: stored length, length, CRC-32C of what is stored
//	CRC-32C           4 bytes, of all of the above
//	the sections      one after the other, s2 blocks
//
// with numbers of 4 bytes, little endian. A section of equal lengths is stored as it
// is. A reader takes the sections it needs and leaves the rest compressed.
const (
	sectionHead = iota
	sectionFindings
	sectionPackages
	sectionPredicates
	sections
)

const (
	// magic is not that of gzip. The last byte is the version: a release that does not
	// know it takes the evidence as damaged and asks the registry again.
	magic        = "SWE\x02"
	sumSize      = 32
	sectionEntry = 12
	formHeader   = len(magic) + sumSize + sections*sectionEntry + 4
	// maxSection is the size of a section in bytes. Evidence that is larger is stored as
	// JSON. Small images have a hundredth of it.
	maxSection = 32 << 20
	// maxFindings and maxPackages are those of a scan report that counts as evidence.
	maxFindings = 50_000
	maxPackages = 100_000
	// worthPacking is the size in bytes below which compression saves nothing.
	worthPacking = 128
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// form is the content of the sections.
type form [sections][]byte

func isStored(packed []byte) bool { return bytes.HasPrefix(packed, []byte(magic[:3])) }

// write returns the stored form; false if a section is too large.
func (f *form) write(digest string) ([]byte, bool) {
	sum, err := hex.DecodeString(strings.TrimPrefix(digest, "sha256:"))
	if err != nil || len(sum) != sumSize {
		return nil, false
	}
	out := make([]byte, 0, formHeader)
	out = append(append(out, magic...), sum...)
	var bodies [sections][]byte
	for i, raw := range f {
		if len(raw) > maxSection {
			return nil, false
		}
		bodies[i] = raw
		if len(raw) >= worthPacking {
			if packed := s2.EncodeBetter(nil, raw); len(packed) < len(raw) {
				bodies[i] = packed
			}
		}
		out = binary.LittleEndian.AppendUint32(out, uint32(len(bodies[i])))
		out = binary.LittleEndian.AppendUint32(out, uint32(len(raw)))
		out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(bodies[i], castagnoli))
	}
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
	return append(out, bytes.Join(bodies[:], nil)...), true
}

// opened is a stored form whose header was checked.
type opened struct {
	bodies  [sections][]byte
	lengths [sections]int
	sums    [sections]uint32
}

func openForm(d Document) (*opened, error) {
	b := d.Packed
	if len(b) < formHeader || string(b[:len(magic)]) != magic {
		return nil, errors.New("it is of a form that this release does not know, or cut off")
	}
	if crc32.Checksum(b[:formHeader-4], castagnoli) != binary.LittleEndian.Uint32(b[formHeader-4:]) {
		return nil, errors.New("checksum of the header")
	}
	if got := hex.EncodeToString(b[len(magic) : len(magic)+sumSize]); "sha256:"+got != d.Digest {
		return nil, fmt.Errorf("it is of sha256:%s", got)
	}
	f := &opened{}
	rest := b[formHeader:]
	for i := range sections {
		entry := b[len(magic)+sumSize+i*sectionEntry:]
		stored, length := binary.LittleEndian.Uint32(entry), binary.LittleEndian.Uint32(entry[4:])
		if uint64(stored) > uint64(len(rest)) || length > maxSection {
			return nil, fmt.Errorf("section %d of %d bytes, %d stored, is cut off or too large", i, length, stored)
		}
		f.bodies[i], f.lengths[i], f.sums[i] = rest[:stored], int(length), binary.LittleEndian.Uint32(entry[8:])
		rest = rest[stored:]
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes after the end", len(rest))
	}
	return f, nil
}

// section returns the content of a section, in into if it fits there.
func (f *opened) section(i int, into []byte) ([]byte, error) {
	body := f.bodies[i]
	if crc32.Checksum(body, castagnoli) != f.sums[i] {
		return nil, fmt.Errorf("checksum of section %d", i)
	}
	if len(body) == f.lengths[i] {
		return body, nil
	}
	if n, err := s2.DecodedLen(body); err != nil || n != f.lengths[i] {
		return nil, fmt.Errorf("section %d says %d bytes and holds %d: %w", i, f.lengths[i], n, err)
	}
	b, err := s2.Decode(into, body)
	if err != nil {
		return nil, fmt.Errorf("section %d: %w", i, err)
	}
	return b, nil
}

// scratch keeps buffers for the content of sections: what is read out of them is copied.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// maxScratch is the size of a buffer that is kept, in bytes.
const maxScratch = 1 << 20

// read gives the content of a section to its reader, which must not keep it.
func (f *opened) read(i int, read func([]byte) error) error {
	into, _ := scratch.Get().(*[]byte)
	defer scratch.Put(into)
	b, err := f.section(i, *into)
	if err != nil {
		return err
	}
	if cap(b) > cap(*into) && cap(b) <= maxScratch && len(b) != len(f.bodies[i]) {
		*into = b[:0]
	}
	if err := read(b); err != nil {
		return fmt.Errorf("section %d: %w", i, err)
	}
	return nil
}
