package core

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// SBOMFormat is a format of bills of materials, as the configuration names it.
type SBOMFormat string

// The formats that are signed.
const (
	SPDXJSON      SBOMFormat = "spdx-json"
	CycloneDXJSON SBOMFormat = "cyclonedx-json"
)

// SBOM is a bill of materials.
type SBOM struct {
	Format SBOMFormat
	// JSON is the document, byte for byte as it is signed.
	JSON []byte
}

// claim checks that the document describes the manifest with a digest and makes
// a claim of it.
func (s SBOM) claim(digest string) (Predicate, error) {
	switch s.Format {
	case SPDXJSON:
		return Predicate{Type: PredicateSPDX, ContentKey: Digest(s.JSON), JSON: s.JSON}, CheckSPDX(s.JSON, digest)
	case CycloneDXJSON:
		return Predicate{Type: PredicateCycloneDX, ContentKey: Digest(s.JSON), JSON: s.JSON}, CheckCycloneDX(s.JSON, digest)
	default:
		return Predicate{}, fmt.Errorf("bill of materials of an unknown format, %q", s.Format)
	}
}

// decodeOne reads one JSON document that nothing follows.
func decodeOne(doc []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(doc))
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the document")
	}
	return nil
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
	_, version, _ := strings.Cut(rest, "@")
	version, _, _ = strings.Cut(version, "?")
	return digest != "" && strings.EqualFold(strings.ReplaceAll(version, "%3A", ":"), digest)
}
