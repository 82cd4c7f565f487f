package advisory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// The snapshot file, version 2. All numbers are little endian. The format is
// written down in docs/snapshot-format.md of the scanner.
//
//	header    magic, version, size of the file, number of sections, CRC
//	table     one row a section: kind, CRC, offset, length
//	sections  the index, then the blocks
const (
	magic         = "SWADVIS\n"
	formatVersion = 2

	headerSize  = 32
	sectionSize = 24
	sectionPad  = 8

	packageSize = 32
	recordSize  = 40
	idSize      = 16
	scoreSize   = 24
)

// The sections, in the order of the file. All but the blocks are the index: they
// are read in place, and their CRC is checked when the file is opened. The CRC of a
// block stands in the index and is checked whenever the block is read.
const (
	sectionMeta = iota
	sectionStrings
	sectionPackages
	sectionPackageHash
	sectionRecords
	sectionIDs
	sectionScores
	sectionScoreHash
	sectionBlocks
	sections
)

// What a snapshot knows beside advisories, as bits of its meta section.
const (
	metaExploited = 1 << iota
	metaScores
)

// MaxFile is the size of the largest snapshot file, in bytes: offsets have 32 bits.
const MaxFile = math.MaxUint32

// ErrCorrupt says that a snapshot cannot be read: it is truncated, changed, or not
// a snapshot at all.
var ErrCorrupt = errors.New("advisory snapshot is corrupt")

// ErrOlder says that a snapshot is of an earlier format. What is covered cannot be told from it,
// so it is not used: scans wait for another.
var ErrOlder = errors.New("advisory snapshot is of an earlier release; import the advisories again (seaworthyctl advisories import, or advisories.feeds)")

// ErrNewer says that a snapshot is of a later format than this release reads.
var ErrNewer = errors.New("advisory snapshot is of a newer release")

func corrupt(format string, a ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, a...)...)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// hashKey is FNV-1a with 64 bits. It only spreads keys over a table: a key that is
// found is compared.
func hashKey[T string | []byte](key T) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return h
}

// hashBuckets is how many buckets a table of n entries has: a power of two, at most
// half of them in use.
func hashBuckets(n int) int {
	size := 2
	for size < 2*n {
		size *= 2
	}
	return size
}

// writer appends numbers and strings.
type writer struct{ b []byte }

func (w *writer) u32(v uint32)  { w.b = binary.LittleEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64)  { w.b = binary.LittleEndian.AppendUint64(w.b, v) }
func (w *writer) byte(v byte)   { w.b = append(w.b, v) }
func (w *writer) uint(v int)    { w.b = binary.AppendUvarint(w.b, uint64(v)) }
func (w *writer) f64(v float64) { w.u64(math.Float64bits(v)) }
func (w *writer) str(s string)  { w.uint(len(s)); w.b = append(w.b, s...) }
func (w *writer) strs(s []string) {
	w.uint(len(s))
	for _, v := range s {
		w.str(v)
	}
}

// reader takes numbers and strings from a block. After a read beyond the end it is
// bad and gives zeros; whoever reads asks once, at the end.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) f64() float64 { return math.Float64frombits(r.u64()) }

// uint reads a number that counts bytes or things of at least one byte that follow,
// or is an index: none is larger than 32 bits.
func (r *reader) uint() int {
	if len(r.b) > 0 && r.b[0] < 0x80 {
		v := int(r.b[0])
		r.b = r.b[1:]
		return v
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > math.MaxUint32 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

// count reads how many things follow; more than there are bytes is bad.
func (r *reader) count() int {
	n := r.uint()
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return 0
	}
	return n
}

func (r *reader) bytes() []byte { return r.take(r.uint()) }
func (r *reader) str() string   { return string(r.bytes()) }

func (r *reader) strs() []string {
	n := r.count()
	if n == 0 {
		return nil
	}
	out := make([]string, 0, n)
	for range n {
		out = append(out, r.str())
	}
	return out
}
