// Package layertest makes image layers out of a few lines, for tests.
package layertest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// Entry is one tar entry.
type Entry struct {
	Name    string
	Content string
	Mode    int64
	Type    byte
	Link    string
}

// File is a regular file.
func File(name, content string) Entry { return Entry{Name: name, Content: content, Mode: 0o644} }

// Executable is a regular file with an execute bit.
func Executable(name, content string) Entry { return Entry{Name: name, Content: content, Mode: 0o755} }

// Dir is a directory.
func Dir(name string) Entry { return Entry{Name: name + "/", Type: tar.TypeDir, Mode: 0o755} }

// Symlink is a symbolic link.
func Symlink(name, target string) Entry {
	return Entry{Name: name, Type: tar.TypeSymlink, Link: target, Mode: 0o777}
}

// HardLink is a hard link.
func HardLink(name, target string) Entry {
	return Entry{Name: name, Type: tar.TypeLink, Link: target, Mode: 0o644}
}

// Tar returns a tar archive of the entries.
func Tar(tb testing.TB, entries ...Entry) []byte {
	tb.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		if e.Type == 0 {
			e.Type = tar.TypeReg
		}
		h := &tar.Header{Name: e.Name, Mode: e.Mode, Size: int64(len(e.Content)), Typeflag: e.Type, Linkname: e.Link, Format: tar.FormatPAX}
		if err := tw.WriteHeader(h); err != nil {
			tb.Fatalf("write header of %s: %v", e.Name, err)
		}
		if _, err := io.WriteString(tw, e.Content); err != nil {
			tb.Fatalf("write %s: %v", e.Name, err)
		}
	}
	if err := tw.Close(); err != nil {
		tb.Fatalf("close tar: %v", err)
	}
	return buf.Bytes()
}

// Gzip compresses.
func Gzip(tb testing.TB, content []byte) []byte {
	tb.Helper()
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	if _, err := zw.Write(content); err != nil {
		tb.Fatalf("compress: %v", err)
	}
	if err := zw.Close(); err != nil {
		tb.Fatalf("compress: %v", err)
	}
	return buf.Bytes()
}

// Digest is the digest of content.
func Digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// MediaTypeGzip is the media type of the layers of Store.
const MediaTypeGzip = "application/vnd.oci.image.layer.v1.tar+gzip"

// Store holds blobs by digest, as a registry does.
type Store map[string][]byte

// Add puts a layer in and returns its descriptor.
func (s Store) Add(blob []byte) core.Descriptor {
	d := Digest(blob)
	s[d] = blob
	return core.Descriptor{MediaType: MediaTypeGzip, Digest: d, Size: int64(len(blob))}
}

// Layer opens a layer. Like a registry client it fails at the end of content that
// does not have its digest.
func (s Store) Layer(_ context.Context, _ imageref.Ref, d core.Descriptor) (io.ReadCloser, error) {
	blob, ok := s[d.Digest]
	if !ok {
		return nil, core.NewFault(core.ReasonImageNotFound, "blob %s does not exist", d.Digest)
	}
	return io.NopCloser(&verifier{r: bytes.NewReader(blob), ok: Digest(blob) == d.Digest}), nil
}

type verifier struct {
	r  io.Reader
	ok bool
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	if err == io.EOF && !v.ok {
		return n, core.NewFault(core.ReasonLayerCorrupt, "digest mismatch")
	}
	return n, err
}
