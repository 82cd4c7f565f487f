package core

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// read lets a document pass in pieces.
func read(format SBOMFormat, doc []byte, digest string, piece int) (SBOM, error) {
	var out bytes.Buffer
	w, err := NewSBOMWriter(format, digest, &out)
	if err != nil {
		return SBOM{}, err
	}
	for len(doc) > 0 {
		n := min(piece, len(doc))
		if _, err := w.Write(doc[:n]); err != nil {
			return SBOM{}, err
		}
		doc = doc[n:]
	}
	s, err := w.Finish(nil)
	s.Content = bytes.NewReader(out.Bytes())
	return s, err
}

// check is the verdict about a document, which must not depend on its pieces.
func check(format SBOMFormat, doc []byte, digest string) error {
	_, whole := read(format, doc, digest, len(doc)+1)
	_, pieces := read(format, doc, digest, 3)
	if (whole == nil) != (pieces == nil) {
		return fmt.Errorf("in one piece %w, in several %w", whole, pieces)
	}
	return whole
}

// sbom is a document that describes the image.
func sbom(format SBOMFormat, doc []byte) SBOM {
	s, err := read(format, doc, imageDigest, len(doc)+1)
	if err != nil {
		panic(err)
	}
	return s
}

func content(t *testing.T, p Predicate) []byte {
	t.Helper()
	raw, err := io.ReadAll(io.NewSectionReader(p.Document, 0, p.Document.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestSBOMWriter_SpacesGo: what is signed has no spaces between tokens; the digest is
// that of the document as it came.
func TestSBOMWriter_SpacesGo(t *testing.T) {
	spaced := bytes.ReplaceAll(spdx(), []byte(`,"`), []byte(",\n  \""))
	s := sbom(SPDXJSON, spaced)
	got := content(t, Predicate{Document: s.Content})
	if !bytes.Equal(got, spdx()) || s.Digest != Digest(spaced) || s.Subject != imageDigest {
		t.Errorf("%s of %s, signed as %s", s.Digest, s.Subject, got)
	}
}

// TestSBOMWriter_OrderIsFree: what is described may stand before or after the
// packages, and memory is bounded in either case.
func TestSBOMWriter_OrderIsFree(t *testing.T) {
	doc := string(spdx())
	relationships := doc[strings.Index(doc, `,"relationships"`) : len(doc)-1]
	first := strings.Replace(strings.Replace(doc, relationships, "", 1), `"packages":`, relationships[1:]+`,"packages":`, 1)
	if err := check(SPDXJSON, []byte(first), imageDigest); err != nil {
		t.Error(err)
	}
	many := strings.Replace(doc, `"relationships":[`, `"documentDescribes":["x"`+strings.Repeat(`,"x"`, maxDescribed)+`],"relationships":[`, 1)
	if err := check(SPDXJSON, []byte(many), imageDigest); !errors.Is(err, ErrSPDX) {
		t.Errorf("a document that describes very much: %v", err)
	}
	pkg := doc[strings.Index(doc, `{"SPDXID":"SPDXRef-image"`):strings.Index(doc, `],"relationships"`)]
	twins := strings.Replace(doc, pkg, pkg+strings.Repeat(","+pkg, maxDescribed), 1)
	if err := check(SPDXJSON, []byte(twins), imageDigest); !errors.Is(err, ErrSPDX) {
		t.Errorf("a document with very many images: %v", err)
	}
	twice := strings.Replace(doc, `"name":"app"`, `"name":"app","name":"other"`, 1)
	if err := check(SPDXJSON, []byte(twice), imageDigest); !errors.Is(err, ErrSPDX) {
		t.Errorf("a document with two names: %v", err)
	}
}

func TestPredicate_Says(t *testing.T) {
	doc := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	p := Predicate{Type: PredicateSPDX, Document: bytes.NewReader(doc)}
	other := bytes.Clone(doc)
	other[40_000] = 'x'
	for name, tc := range map[string]struct {
		read []byte
		want bool
	}{"the same": {doc, true}, "a byte": {other, false}, "shorter": {doc[:100], false}, "nothing": {nil, false}} {
		if p.Says(tc.read) != tc.want {
			t.Errorf("%s: %v", name, !tc.want)
		}
	}
	if small := (Predicate{Type: PredicateVSA, JSON: []byte(`{"a":1}`)}); !small.Says([]byte(`{ "a": 1 }`)) || small.Says(doc) {
		t.Error("a predicate in memory is compared otherwise")
	}
}
