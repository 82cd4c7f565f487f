package advisory

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Before there were snapshot files a snapshot was zstd over lines of JSON, a header
// and then the records ordered by id; legacyV2 has scores behind the records. Its
// digest was the SHA-256 of those lines. Databases of that time still hold one.
const (
	legacyV1 = "seaworthy-advisories/1"
	legacyV2 = "seaworthy-advisories/2"
)

// maxLegacy is the size of the largest of them that is loaded, decompressed.
const maxLegacy = 2 << 30

type legacyHeader struct {
	Format   string `json:"format"`
	Count    int    `json:"count"`
	Rejected int64  `json:"rejected"`
	Scores   int    `json:"scores"`
}

// IsLegacy recognises the stored form of earlier releases.
func IsLegacy(content []byte) bool {
	return bytes.HasPrefix(content, []byte{0x28, 0xb5, 0x2f, 0xfd}) // of zstd
}

// FromLegacy makes a snapshot of the stored form of earlier releases, which must
// have the digest. One that is truncated or changed is refused with ErrCorrupt.
func FromLegacy(content []byte, digest string) (*Snapshot, error) {
	zr, err := zstd.NewReader(bytes.NewReader(content), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxLegacy))
	if err != nil {
		return nil, corrupt("%w", err)
	}
	defer zr.Close()
	h := sha256.New()
	dec := json.NewDecoder(io.TeeReader(io.LimitReader(zr, maxLegacy), h))
	var head legacyHeader
	if err := dec.Decode(&head); err != nil {
		return nil, corrupt("%w", err)
	}
	if head.Format != legacyV1 && head.Format != legacyV2 {
		return nil, corrupt("format %q is not known", head.Format)
	}
	var records []*Record
	intern := interner{}
	for range head.Count {
		r := &Record{}
		if err := dec.Decode(r); err != nil {
			return nil, corrupt("record %d of %d: %w", len(records), head.Count, err)
		}
		for i := range r.Affected {
			if a := &r.Affected[i]; isRPM(baseEcosystem(a.Ecosystem)) {
				a.Stream = a.moduleStream(r.Summary)
			}
		}
		intern.record(r)
		records = append(records, r)
	}
	var scores []Score
	for range head.Scores {
		var sc Score
		if err := dec.Decode(&sc); err != nil {
			return nil, corrupt("score %d of %d: %w", len(scores), head.Scores, err)
		}
		scores = append(scores, sc)
	}
	if err := dec.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		return nil, corrupt("more than it says")
	}
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != digest {
		return nil, corrupt("digest is %s, not %s", got, digest)
	}
	var known byte
	for _, sc := range scores {
		if sc.KEV {
			known |= metaExploited
		}
		if sc.EPSS > 0 {
			known |= metaScores
		}
	}
	encoded, err := encode(records, scores, head.Rejected, known)
	if err != nil {
		return nil, err
	}
	return newSnapshot(encoded, "")
}
