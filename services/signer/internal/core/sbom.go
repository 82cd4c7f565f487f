package core

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/seaworthy-dev/seaworthy/services/signer/internal/jsonstream"
)

// SBOMFormat is a format of bills of materials, as the configuration names it.
type SBOMFormat string

// The formats that are signed.
const (
	SPDXJSON      SBOMFormat = "spdx-json"
	CycloneDXJSON SBOMFormat = "cyclonedx-json"
)

// SBOM is a bill of materials that was checked: it describes the subject.
type SBOM struct {
	Format SBOMFormat
	// Subject is the digest of the manifest that it describes, "sha256:<hex>".
	Subject string
	// Digest is that of the document as it came, "sha256:<hex>".
	Digest string
	// Content is the document without spaces between its tokens, as it is signed.
	Content Content
}

func (s SBOM) claim() Predicate {
	p := Predicate{Type: PredicateSPDX, ContentKey: s.Digest, Document: s.Content}
	if s.Format == CycloneDXJSON {
		p.Type = PredicateCycloneDX
	}
	return p
}

// SBOMWriter checks a bill of materials while it passes, in memory that does not grow
// with it.
type SBOMWriter struct {
	sbom   SBOM
	json   *jsonstream.Writer
	digest hash.Hash
	verify func(digest string) error
	cause  error
}

// NewSBOMWriter returns a writer that passes a document on to out, without spaces
// between its tokens, and checks that it is of the format and describes the manifest
// with the digest subject, "sha256:<hex>".
func NewSBOMWriter(format SBOMFormat, subject string, out io.Writer) (*SBOMWriter, error) {
	w := &SBOMWriter{sbom: SBOM{Format: format, Subject: subject}, digest: sha256.New()}
	var shape *jsonstream.Shape
	switch format {
	case SPDXJSON:
		d := newSPDXDocument(subject)
		shape, w.verify, w.cause = d.shape(), d.check, ErrSPDX
	case CycloneDXJSON:
		d := new(cycloneDXDocument)
		shape, w.verify, w.cause = d.shape(), d.check, ErrCycloneDX
	default:
		return nil, fmt.Errorf("bill of materials of an unknown format, %q", format)
	}
	w.json = jsonstream.NewWriter(out, shape)
	return w, nil
}

// Write implements io.Writer. Errors wrap ErrSPDX or ErrCycloneDX, or are those of
// the writer that the document is passed on to.
func (w *SBOMWriter) Write(p []byte) (int, error) {
	w.digest.Write(p)
	n, err := w.json.Write(p)
	return n, w.of(err)
}

// Finish says whether the document is whole and sound, and returns it: content is
// what was passed on. Errors are those of Write.
func (w *SBOMWriter) Finish(content Content) (SBOM, error) {
	if err := w.json.Close(); err != nil {
		return SBOM{}, w.of(err)
	}
	if err := w.verify(w.sbom.Subject); err != nil {
		return SBOM{}, err
	}
	w.sbom.Digest, w.sbom.Content = "sha256:"+hex.EncodeToString(w.digest.Sum(nil)), content
	return w.sbom, nil
}

func (w *SBOMWriter) of(err error) error {
	if !errors.Is(err, jsonstream.ErrMalformed) {
		return err
	}
	return fmt.Errorf("%w: %w", w.cause, err)
}

// keepText is the shape of a string that is kept; of a long one its begin is.
func keepText(to *string) *jsonstream.Shape {
	return &jsonstream.Shape{Text: func(text []byte, _ bool) error {
		*to = string(text)
		return nil
	}}
}

// isDigest reports whether hex is that of a digest "sha256:<hex>".
func isDigest(hex, digest string) bool {
	want, ok := strings.CutPrefix(digest, "sha256:")
	return ok && want != "" && strings.EqualFold(hex, want)
}

// purlNames reports whether a package URL of the type oci is of the manifest.
func purlNames(purl, digest string) bool {
	rest, ok := strings.CutPrefix(purl, "pkg:oci/")
	if !ok {
		return false
	}
	rest, _, _ = strings.Cut(rest, "?")
	_, version, _ := strings.Cut(rest, "@")
	return digest != "" && strings.EqualFold(strings.ReplaceAll(version, "%3A", ":"), digest)
}
