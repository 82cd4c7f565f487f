package advisory

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// Snapshot is an immutable set of advisories: a file that is read in place. It is
// safe for use by several goroutines.
type Snapshot struct {
	// data is the whole file; it may lie in mapped memory, so nothing that leaves
	// this package may point into it.
	data  []byte
	parts [sections][]byte
	info  core.SnapshotInfo
	// coverage and releases answer Covers: the ecosystems and releases with advisories, and
	// the ecosystems whose advisories name releases.
	coverage map[string]struct{}
	releases map[string]bool

	mavenOnce  sync.Once
	maven      map[string][]string
	mavenError error
}

// Open maps a snapshot's file into memory. It checks the header and the index; the
// blocks are checked when they are read. digest names the snapshot, for example in
// reports, and is not checked: Verify does that. An empty one is computed.
//
// The file must not be changed while the snapshot is in use; it may be removed. The
// memory is given back when nobody uses the snapshot any more. Errors are those of
// the file system, ErrCorrupt, ErrOlder and ErrNewer.
func Open(path, digest string) (*Snapshot, error) {
	data, unmap, err := mapFile(path)
	if err != nil {
		return nil, fmt.Errorf("open advisory snapshot: %w", err)
	}
	if digest == "" {
		digest, err = digestOfFile(path, int64(len(data)))
	}
	var s *Snapshot
	if err == nil {
		s, err = newSnapshot(data, digest)
	}
	if err != nil {
		unmap()
		return nil, fmt.Errorf("open advisory snapshot %s: %w", path, err)
	}
	runtime.AddCleanup(s, func(unmap func()) { unmap() }, unmap)
	return s, nil
}

// Decode returns the snapshot in the content of a file and checks that it has the
// digest. The content must not be changed any more.
func Decode(content []byte, digest string) (*Snapshot, error) {
	s, err := newSnapshot(content, digest)
	if err != nil {
		return nil, err
	}
	return s, s.Verify()
}

// DigestOf is the digest that a snapshot with the content has.
func DigestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// digestOfFile is DigestOf of a file of the given size. It reads the file instead of
// its mapping, so that only those pages come into the process that matching looks at.
func digestOfFile(path string, size int64) (string, error) {
	f, err := regularfile.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if n, err := io.Copy(h, f); err != nil {
		return "", err
	} else if n != size {
		return "", corrupt("it had %d bytes and has %d now", size, n)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

func newSnapshot(data []byte, digest string) (*Snapshot, error) {
	s := &Snapshot{data: data}
	if err := s.sections(); err != nil {
		return nil, err
	}
	if err := s.index(); err != nil {
		return nil, err
	}
	if digest == "" {
		digest = DigestOf(data)
	}
	s.info.Digest = digest
	return s, nil
}

// sections checks the header and finds the sections.
func (s *Snapshot) sections() error {
	const tableEnd = headerSize + sections*sectionSize
	if len(s.data) < headerSize || string(s.data[:len(magic)]) != magic {
		return corrupt("it does not begin as a snapshot does")
	}
	if v := u32at(s.data, 8); v > formatVersion {
		return fmt.Errorf("%w: its format is %d, this release reads %d", ErrNewer, v, formatVersion)
	}
	if n := u64at(s.data, 16); n != uint64(len(s.data)) {
		return corrupt("it has %d bytes and says that it has %d", len(s.data), n)
	}
	if v := u32at(s.data, 8); v < formatVersion {
		return fmt.Errorf("%w: its format is %d, this release reads %d", ErrOlder, v, formatVersion)
	}
	if u32at(s.data, 12) != sections || len(s.data) < tableEnd {
		return corrupt("header")
	}
	table := s.data[headerSize:tableEnd]
	if u32at(s.data, 24) != headerChecksum(s.data[:24], table) {
		return corrupt("checksum of the header")
	}
	for kind := range sections {
		row := table[kind*sectionSize:]
		at, size := u64at(row, 8), u64at(row, 16)
		if int(u32at(row, 0)) != kind || at > uint64(len(s.data)) || size > uint64(len(s.data))-at {
			return corrupt("section %d", kind)
		}
		s.parts[kind] = s.data[at : at+size : at+size]
		if u32at(row, 4) != sectionChecksum(kind, s.parts[kind]) {
			return corrupt("checksum of section %d", kind)
		}
	}
	return nil
}

// index checks the sizes of the tables and reads what the snapshot says of itself.
func (s *Snapshot) index() error {
	for kind, size := range map[int]int{
		sectionPackages: packageSize, sectionRecords: recordSize, sectionIDs: idSize, sectionScores: scoreSize,
	} {
		if len(s.parts[kind])%size != 0 {
			return corrupt("size of section %d", kind)
		}
	}
	for kind, n := range map[int]int{sectionPackageHash: s.packages(), sectionScoreHash: len(s.parts[sectionScores]) / scoreSize} {
		if len(s.parts[kind]) != 4*hashBuckets(n) {
			return corrupt("size of section %d", kind)
		}
	}
	r := reader{b: s.parts[sectionMeta]}
	s.info.RejectedCount = int64(r.u64())
	seconds := int64(r.u64())
	s.info.DataTime = time.Unix(seconds, int64(r.u32())).UTC()
	known := r.byte()
	s.info.ExploitedKnown, s.info.ScoresKnown = known&metaExploited != 0, known&metaScores != 0
	for range r.count() {
		c := core.Coverage{Ecosystem: r.str(), AdvisoryCount: int64(r.u64())}
		seconds := int64(r.u64())
		c.DataTime = time.Unix(seconds, int64(r.u32())).UTC()
		s.info.Coverage = append(s.info.Coverage, c)
		s.info.Ecosystems = append(s.info.Ecosystems, c.Ecosystem)
	}
	s.info.AdvisoryCount = int64(s.records())
	if r.bad || len(r.b) > 0 {
		return corrupt("what it says of itself")
	}
	s.indexCoverage()
	return nil
}

// Info names the snapshot.
func (s *Snapshot) Info() core.SnapshotInfo { return s.info }

// Size is the size of the file, in bytes.
func (s *Snapshot) Size() int64 { return int64(len(s.data)) }

// Verify reads the whole file and checks that it has the snapshot's digest; if not,
// the error is ErrCorrupt.
func (s *Snapshot) Verify() error {
	defer runtime.KeepAlive(s)
	if got := DigestOf(s.data); got != s.info.Digest {
		return corrupt("its digest is %s, not %s", got, s.info.Digest)
	}
	return nil
}

// Encode returns a copy of the file.
func (s *Snapshot) Encode() []byte {
	defer runtime.KeepAlive(s)
	return bytes.Clone(s.data)
}

// WriteFile writes the snapshot to a file that is there as a whole or not at all.
func (s *Snapshot) WriteFile(path string) error {
	defer runtime.KeepAlive(s)
	return writeFile(path, s.data)
}

func writeFile(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".snapshot-*.tmp")
	if err != nil {
		return fmt.Errorf("write advisory snapshot: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = fmt.Errorf("write advisory snapshot: %w", err)
		}
	}()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func (s *Snapshot) packages() int { return len(s.parts[sectionPackages]) / packageSize }
func (s *Snapshot) records() int  { return len(s.parts[sectionRecords]) / recordSize }

// slice is a piece of a section.
func (s *Snapshot) slice(kind int, at, size uint32) ([]byte, error) {
	part := s.parts[kind]
	if uint64(at)+uint64(size) > uint64(len(part)) {
		return nil, corrupt("an entry points beyond section %d", kind)
	}
	return part[at : at+size : at+size], nil
}

// block returns the block that a row of the index names, checked.
func (s *Snapshot) block(row []byte, what string) ([]byte, error) {
	b, err := s.slice(sectionBlocks, u32at(row, 0), u32at(row, 4))
	if err != nil {
		return nil, err
	}
	if checksum(b) != u32at(row, 8) {
		return nil, corrupt("checksum of %s", what)
	}
	return b, nil
}

// lookup finds the number of an entry by its key; -1 if there is none. hash gives
// the hash of an entry where the table has it.
func (s *Snapshot) lookup(buckets, entries, rowSize, keyAt int, key []byte, hash uint64, hashed bool) (int, error) {
	table, rows := s.parts[buckets], s.parts[entries]
	n := uint64(len(table) / 4)
	for at, seen := hash&(n-1), uint64(0); seen < n; at, seen = (at+1)&(n-1), seen+1 {
		i := int(u32at(table, int(at)*4)) - 1
		if i < 0 {
			return -1, nil
		}
		if (i+1)*rowSize > len(rows) {
			return -1, corrupt("a bucket of section %d", buckets)
		}
		row := rows[i*rowSize:]
		if hashed && u64at(row, 0) != hash {
			continue
		}
		have, err := s.slice(sectionStrings, u32at(row, keyAt), u32at(row, keyAt+4))
		if err != nil {
			return -1, err
		}
		if bytes.Equal(have, key) {
			return i, nil
		}
	}
	return -1, nil
}

// packageRow finds what the index has about a package.
func (s *Snapshot) packageRow(ecosystem, name string) (row []byte, err error) {
	var buffer [128]byte
	key := append(append(append(buffer[:0], ecosystem...), 0), name...)
	i, err := s.lookup(sectionPackageHash, sectionPackages, packageSize, 8, key, hashKey(key), true)
	if err != nil || i < 0 {
		return nil, err
	}
	return s.parts[sectionPackages][i*packageSize:][:packageSize], nil
}

// packageKey is the ecosystem and the name of the package with the number.
func (s *Snapshot) packageKey(i int) (ecosystem, name string, err error) {
	if i < 0 || i >= s.packages() {
		return "", "", corrupt("package %d", i)
	}
	row := s.parts[sectionPackages][i*packageSize:]
	key, err := s.slice(sectionStrings, u32at(row, 8), u32at(row, 12))
	if err != nil {
		return "", "", err
	}
	e, n, ok := bytes.Cut(key, []byte{0})
	if !ok {
		return "", "", corrupt("package %d", i)
	}
	return string(e), string(n), nil
}

// recordID is the id of the record with the number.
func (s *Snapshot) recordID(i int) ([]byte, error) {
	if i < 0 || i >= s.records() {
		return nil, corrupt("record %d", i)
	}
	row := s.parts[sectionRecords][i*recordSize:]
	return s.slice(sectionStrings, u32at(row, 0), u32at(row, 4))
}

// record reads the record with the number, without what it affects; these are the
// numbers of the packages.
func (s *Snapshot) record(i int) (*Record, []int, error) {
	id, err := s.recordID(i)
	if err != nil {
		return nil, nil, err
	}
	name := string(id)
	b, err := s.block(s.parts[sectionRecords][i*recordSize+8:], name)
	if err != nil {
		return nil, nil, err
	}
	return readRecord(b, name)
}

// Records reads all records, ordered by id.
func (s *Snapshot) Records() ([]*Record, error) {
	defer runtime.KeepAlive(s)
	out := make([]*Record, s.records())
	for i := range out {
		var err error
		if out[i], _, err = s.record(i); err != nil {
			return nil, err
		}
	}
	for i := range s.packages() {
		ecosystem, name, err := s.packageKey(i)
		if err != nil {
			return nil, err
		}
		b, err := s.block(s.parts[sectionPackages][i*packageSize+16:], name)
		if err != nil {
			return nil, err
		}
		err = readEntries(b, func(e *packageEntry) error {
			if e.record >= len(out) {
				return corrupt("package %s names record %d", name, e.record)
			}
			a, err := e.affectedEntry(ecosystem, name)
			out[e.record].Affected = append(out[e.record].Affected, a)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// About returns the packages that the records about a vulnerability affect: those
// that have the id, or name it. They are sorted and without doubles.
func (s *Snapshot) About(id string) ([]core.PackageKey, error) {
	defer runtime.KeepAlive(s)
	rows := s.parts[sectionIDs]
	n := len(rows) / idSize
	hash := hashKey(id)
	seen := map[core.PackageKey]bool{}
	for i := sort.Search(n, func(i int) bool { return u64at(rows, i*idSize) >= hash }); i < n && u64at(rows, i*idSize) == hash; i++ {
		r, packages, err := s.record(int(u32at(rows, i*idSize+8)))
		if err != nil {
			return nil, err
		}
		if !slices.Contains(r.ids(), id) {
			continue
		}
		for _, p := range packages {
			ecosystem, name, err := s.packageKey(p)
			if err != nil {
				return nil, err
			}
			addKeys(seen, ecosystem, name)
		}
	}
	return sortedKeys(seen), nil
}
