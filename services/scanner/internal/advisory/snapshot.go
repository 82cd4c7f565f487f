package advisory

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// formatV1 names the encoded form: zstd over lines of JSON, a header and then the
// records ordered by id. The digest of a snapshot is the SHA-256 of those lines.
// formatV2 has scores, ordered by id, behind the records.
const (
	formatV1 = "seaworthy-advisories/1"
	formatV2 = "seaworthy-advisories/2"
)

// maxDecoded is the size of the largest snapshot that is loaded, decompressed.
const maxDecoded = 2 << 30

// ErrCorrupt says that an encoded snapshot cannot be loaded.
var ErrCorrupt = errors.New("advisory snapshot is corrupt")

type header struct {
	Format   string `json:"format"`
	Count    int    `json:"count"`
	Rejected int64  `json:"rejected"`
	Scores   int    `json:"scores,omitempty"`
}

// Snapshot is an immutable set of advisories. It is safe for use by several
// goroutines.
type Snapshot struct {
	info    core.SnapshotInfo
	records []*Record
	scores  []Score
	index   map[packageKey][]affectedRef
}

type packageKey struct{ ecosystem, name string }

type affectedRef struct {
	record   *Record
	affected *Affected
}

func newSnapshot(records []*Record, scores []Score, rejected int64) (*Snapshot, error) {
	slices.SortFunc(records, func(a, b *Record) int { return cmp.Compare(a.ID, b.ID) })
	s := &Snapshot{records: records, scores: scores, info: core.SnapshotInfo{RejectedCount: rejected}}
	h := sha256.New()
	if err := s.writeLines(h); err != nil {
		return nil, err
	}
	s.info.Digest = "sha256:" + hex.EncodeToString(h.Sum(nil))
	s.buildIndex()
	return s, nil
}

func (s *Snapshot) buildIndex() {
	entries := 0
	for _, r := range s.records {
		entries += len(r.Affected)
	}
	s.index = make(map[packageKey][]affectedRef, entries/2)
	ecosystems := map[string]bool{}
	var newest time.Time
	for _, r := range s.records {
		if r.Modified.After(newest) {
			newest = r.Modified
		}
		for i := range r.Affected {
			a := &r.Affected[i]
			key := packageKey{a.Ecosystem, a.Name}
			s.index[key] = append(s.index[key], affectedRef{record: r, affected: a})
			ecosystems[a.Ecosystem] = true
		}
	}
	s.info.DataTime = newest
	s.info.AdvisoryCount = int64(len(s.records))
	for e := range ecosystems {
		s.info.Ecosystems = append(s.info.Ecosystems, e)
	}
	slices.Sort(s.info.Ecosystems)
}

// Info names the snapshot.
func (s *Snapshot) Info() core.SnapshotInfo { return s.info }

func (s *Snapshot) writeLines(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	format := formatV1
	if len(s.scores) > 0 {
		format = formatV2
	}
	if err := enc.Encode(header{Format: format, Count: len(s.records), Rejected: s.info.RejectedCount, Scores: len(s.scores)}); err != nil {
		return fmt.Errorf("encode advisories: %w", err)
	}
	for _, r := range s.records {
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("encode advisory %s: %w", r.ID, err)
		}
	}
	for _, sc := range s.scores {
		if err := enc.Encode(sc); err != nil {
			return fmt.Errorf("encode score of %s: %w", sc.ID, err)
		}
	}
	return nil
}

// Encode returns the snapshot in the form that Decode reads.
func (s *Snapshot) Encode() ([]byte, error) {
	var out bytes.Buffer
	zw, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("encode advisories: %w", err)
	}
	bw := bufio.NewWriterSize(zw, 1<<20)
	if err := s.writeLines(bw); err != nil {
		return nil, err
	}
	if err := errors.Join(bw.Flush(), zw.Close()); err != nil {
		return nil, fmt.Errorf("encode advisories: %w", err)
	}
	return out.Bytes(), nil
}

// Decode loads an encoded snapshot and checks that it has the digest. A snapshot
// that is truncated or changed is refused with ErrCorrupt.
func Decode(encoded []byte, digest string) (*Snapshot, error) {
	zr, err := zstd.NewReader(bytes.NewReader(encoded), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxDecoded))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	defer zr.Close()
	h := sha256.New()
	dec := json.NewDecoder(io.TeeReader(io.LimitReader(zr, maxDecoded), h))
	var head header
	if err := dec.Decode(&head); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if head.Format != formatV1 && head.Format != formatV2 {
		return nil, fmt.Errorf("%w: format %q is not known", ErrCorrupt, head.Format)
	}
	s := &Snapshot{info: core.SnapshotInfo{Digest: digest, RejectedCount: head.Rejected}}
	intern := interner{}
	for range head.Count {
		r := &Record{}
		if err := dec.Decode(r); err != nil {
			return nil, fmt.Errorf("%w: record %d of %d: %w", ErrCorrupt, len(s.records), head.Count, err)
		}
		intern.record(r)
		s.records = append(s.records, r)
	}
	for range head.Scores {
		var sc Score
		if err := dec.Decode(&sc); err != nil {
			return nil, fmt.Errorf("%w: score %d of %d: %w", ErrCorrupt, len(s.scores), head.Scores, err)
		}
		s.scores = append(s.scores, sc)
	}
	if err := dec.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: more than it says", ErrCorrupt)
	}
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != digest {
		return nil, fmt.Errorf("%w: digest is %s, not %s", ErrCorrupt, got, digest)
	}
	s.buildIndex()
	return s, nil
}
