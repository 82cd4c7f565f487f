// Package record keeps what verdicts were made from, so that a verdict can be
// made again: to prove it, and to judge an image by other policies without asking
// its registry.
//
// A document is named by the SHA-256 of its content. Evidence is recorded as JSON
// of the core's own types, after verification: whatever the rules could see. What is
// stored of it is a form that is read in parts and without JSON, as far as that form
// gives the very same JSON again.
package record

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// MaxDocument is the size of a document in bytes, unpacked.
const MaxDocument = 256 << 20

// ErrDamaged says that a document is not what its digest says.
var ErrDamaged = errors.New("the recorded document is damaged")

// Document is a content with its name.
type Document struct {
	// Digest is `sha256:` and the hex SHA-256 of the content.
	Digest string
	// Packed is what is stored: the gzip of the content, or evidence in its stored form
	// (see evidence.go), which the content is made of again.
	Packed []byte
}

// Pack names a content and packs it.
func Pack(content []byte) (Document, error) {
	if len(content) > MaxDocument {
		return Document{}, fmt.Errorf("record: a document of %d bytes is larger than %d", len(content), MaxDocument)
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return Document{}, fmt.Errorf("record: %w", err)
	}
	if _, err := w.Write(content); err != nil {
		return Document{}, fmt.Errorf("record: %w", err)
	}
	if err := w.Close(); err != nil {
		return Document{}, fmt.Errorf("record: %w", err)
	}
	return Document{Digest: digest(content), Packed: b.Bytes()}, nil
}

// Unpack returns the content of a document, or ErrDamaged.
func Unpack(d Document) ([]byte, error) {
	if isStored(d.Packed) {
		_, content, err := restore(d)
		return content, err
	}
	r, err := gzip.NewReader(bytes.NewReader(d.Packed))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, d.Digest, err)
	}
	content, err := io.ReadAll(io.LimitReader(r, MaxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, d.Digest, err)
	}
	if len(content) > MaxDocument || digest(content) != d.Digest {
		return nil, fmt.Errorf("%w: %s", ErrDamaged, d.Digest)
	}
	return content, nil
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}
