package advisory

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// meta is what the index says about the whole snapshot.
type meta struct {
	rejected int64
	newest   time.Time
	coverage []core.Coverage
	// known has the bits of metaExploited and metaScores.
	known byte
}

// encoder lays a snapshot out. The same records and scores give the same bytes.
type encoder struct {
	parts [sections]writer
}

// encode returns the file of a snapshot. The records are sorted in place.
func encode(records []*Record, scores []Score, rejected int64, known byte) ([]byte, error) {
	slices.SortFunc(records, func(a, b *Record) int { return cmp.Compare(a.ID, b.ID) })
	e := &encoder{}
	packages := groupPackages(records)
	m := meta{rejected: rejected, known: known}
	for _, r := range records {
		if r.Modified.After(m.newest) {
			m.newest = r.Modified
		}
	}
	m.coverage = covered(records)
	e.meta(m)
	e.packages(packages)
	if err := e.records(records, packages); err != nil {
		return nil, err
	}
	e.scores(scores)
	return e.file()
}

type packageEntries struct {
	ecosystem, name string
	entries         []entry
}

func (p *packageEntries) key() string { return p.ecosystem + "\x00" + p.name }

// groupPackages turns records around: it lists the packages by ecosystem and name,
// each with what the records say about it, by record. It brings what each record
// affects into the same order.
func groupPackages(records []*Record) []packageEntries {
	type key struct{ ecosystem, name string }
	at := map[key]int{}
	var out []packageEntries
	for i, r := range records {
		slices.SortStableFunc(r.Affected, func(a, b Affected) int {
			return cmp.Or(cmp.Compare(a.Ecosystem, b.Ecosystem), cmp.Compare(a.Name, b.Name))
		})
		for j := range r.Affected {
			a := &r.Affected[j]
			k := key{a.Ecosystem, a.Name}
			n, ok := at[k]
			if !ok {
				n = len(out)
				at[k] = n
				out = append(out, packageEntries{ecosystem: a.Ecosystem, name: a.Name})
			}
			out[n].entries = append(out[n].entries, entry{record: i, affected: a})
		}
	}
	slices.SortFunc(out, func(a, b packageEntries) int {
		return cmp.Or(cmp.Compare(a.ecosystem, b.ecosystem), cmp.Compare(a.name, b.name))
	})
	return out
}

func (e *encoder) meta(m meta) {
	w := &e.parts[sectionMeta]
	w.u64(uint64(m.rejected))
	w.u64(uint64(m.newest.Unix()))
	w.u32(uint32(m.newest.Nanosecond()))
	w.byte(m.known)
	w.uint(len(m.coverage))
	for _, c := range m.coverage {
		w.str(c.Ecosystem)
		w.u64(uint64(c.AdvisoryCount))
		w.u64(uint64(c.DataTime.Unix()))
		w.u32(uint32(c.DataTime.Nanosecond()))
	}
}

// text puts a string into the index and writes where it is.
func (e *encoder) text(w *writer, s string) {
	heap := &e.parts[sectionStrings]
	w.u32(uint32(len(heap.b)))
	w.u32(uint32(len(s)))
	heap.b = append(heap.b, s...)
}

// block appends a block and writes where it is and its CRC.
func (e *encoder) block(w *writer, write func(*writer)) {
	blocks := &e.parts[sectionBlocks]
	start := len(blocks.b)
	write(blocks)
	w.u32(uint32(start))
	w.u32(uint32(len(blocks.b) - start))
	w.u32(checksum(blocks.b[start:]))
}

// table writes the buckets of a hash table: 0, or the number of an entry plus one.
func (e *encoder) table(section int, keys int, hash func(int) uint64) {
	buckets := make([]uint32, hashBuckets(keys))
	mask := uint64(len(buckets) - 1)
	for i := range keys {
		at := hash(i) & mask
		for buckets[at] != 0 {
			at = (at + 1) & mask
		}
		buckets[at] = uint32(i + 1)
	}
	w := &e.parts[section]
	for _, b := range buckets {
		w.u32(b)
	}
}

func (e *encoder) packages(packages []packageEntries) {
	w := &e.parts[sectionPackages]
	hashes := make([]uint64, len(packages))
	for i := range packages {
		p := &packages[i]
		key := p.key()
		hashes[i] = hashKey(key)
		w.u64(hashes[i])
		e.text(w, key)
		e.block(w, func(b *writer) { appendPackage(b, p.ecosystem, p.entries) })
		w.u32(0)
	}
	e.table(sectionPackageHash, len(packages), func(i int) uint64 { return hashes[i] })
}

// records writes the records, and by which ids they are found.
func (e *encoder) records(records []*Record, packages []packageEntries) error {
	of := make([][]int, len(records))
	for i := range packages {
		for _, en := range packages[i].entries {
			if list := of[en.record]; len(list) == 0 || list[len(list)-1] != i {
				of[en.record] = append(list, i)
			}
		}
	}
	type id struct {
		hash   uint64
		record int
	}
	var ids []id
	w := &e.parts[sectionRecords]
	for i, r := range records {
		digest, err := recordDigest(r)
		if err != nil {
			return err
		}
		e.text(w, r.ID)
		e.block(w, func(b *writer) { appendRecord(b, r, of[i]) })
		w.u32(0)
		w.b = append(w.b, digest[:]...)
		for _, name := range r.ids() {
			ids = append(ids, id{hashKey(name), i})
		}
	}
	slices.SortFunc(ids, func(a, b id) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.record, b.record)) })
	w = &e.parts[sectionIDs]
	for _, i := range slices.Compact(ids) {
		w.u64(i.hash)
		w.u32(uint32(i.record))
		w.u32(0)
	}
	return nil
}

// ids are all ids that a record speaks of.
func (r *Record) ids() []string { return slices.Concat([]string{r.ID}, r.Aliases, r.Upstream) }

// recordDigest tells records apart: the first half of the SHA-256 of their JSON.
func recordDigest(r *Record) (d [16]byte, err error) {
	content, err := json.Marshal(r)
	if err != nil {
		return d, fmt.Errorf("encode advisory %s: %w", r.ID, err)
	}
	sum := sha256.Sum256(content)
	copy(d[:], sum[:])
	return d, nil
}

func (e *encoder) scores(scores []Score) {
	w := &e.parts[sectionScores]
	for _, s := range scores {
		e.text(w, s.ID)
		w.f64(s.EPSS)
		kev := uint32(0)
		if s.KEV {
			kev = 1
		}
		w.u32(kev)
		w.u32(0)
	}
	e.table(sectionScoreHash, len(scores), func(i int) uint64 { return hashKey(scores[i].ID) })
}

// file joins the parts.
func (e *encoder) file() ([]byte, error) {
	size := headerSize + sections*sectionSize
	for i := range e.parts {
		size = align(size) + len(e.parts[i].b)
	}
	if size > MaxFile {
		return nil, fmt.Errorf("snapshot of %d bytes exceeds the limit of %d: import fewer advisories", size, int64(MaxFile))
	}
	var table writer
	at := headerSize + sections*sectionSize
	for kind := range e.parts {
		at = align(at)
		part := e.parts[kind].b
		table.u32(uint32(kind))
		table.u32(sectionChecksum(kind, part))
		table.u64(uint64(at))
		table.u64(uint64(len(part)))
		at += len(part)
	}
	var out writer
	out.b = make([]byte, 0, size)
	out.b = append(out.b, magic...)
	out.u32(formatVersion)
	out.u32(sections)
	out.u64(uint64(size))
	out.u32(headerChecksum(out.b, table.b))
	out.u32(0)
	out.b = append(out.b, table.b...)
	for kind := range e.parts {
		out.b = append(out.b, make([]byte, align(len(out.b))-len(out.b))...)
		out.b = append(out.b, e.parts[kind].b...)
		e.parts[kind].b = nil
	}
	return out.b, nil
}

func align(n int) int { return (n + sectionPad - 1) / sectionPad * sectionPad }

// sectionChecksum is that of a section of the index. The blocks have their own.
func sectionChecksum(kind int, part []byte) uint32 {
	if kind == sectionBlocks {
		return 0
	}
	return checksum(part)
}

// headerChecksum is that of the header before it, and of the table.
func headerChecksum(header, table []byte) uint32 {
	return checksum(bytes.Join([][]byte{header, table}, nil))
}

// u32at reads a number of a table.
func u32at(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }

func u64at(b []byte, at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
