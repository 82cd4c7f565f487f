package core

import (
	"errors"
	"fmt"
	"strings"
)

// ErrCycloneDX is the cause of every document that CheckCycloneDX refuses.
var ErrCycloneDX = errors.New("not a usable CycloneDX document")

const cycloneDXVersion = "1.6"

// cycloneDXDocument is the part of a CycloneDX 1.6 document that says what it is about.
type cycloneDXDocument struct {
	BOMFormat    string `json:"bomFormat"`
	SpecVersion  string `json:"specVersion"`
	SerialNumber string `json:"serialNumber"`
	Metadata     struct {
		Timestamp string              `json:"timestamp"`
		Component *cycloneDXComponent `json:"component"`
	} `json:"metadata"`
}

type cycloneDXComponent struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version"`
	PURL    string `json:"purl"`
	Hashes  []struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	} `json:"hashes"`
}

// CheckCycloneDX reports whether doc is one CycloneDX 1.6 document in JSON that
// describes the manifest with the digest "sha256:<hex>": its component, a
// container, has the digest as its SHA-256, as its version, or in its package URL.
// Errors wrap ErrCycloneDX.
func CheckCycloneDX(doc []byte, digest string) error {
	var d cycloneDXDocument
	if err := decodeOne(doc, &d); err != nil {
		return fmt.Errorf("%w: %w", ErrCycloneDX, err)
	}
	c := d.Metadata.Component
	switch {
	case d.BOMFormat != "CycloneDX":
		return fmt.Errorf("%w: bomFormat is %q", ErrCycloneDX, clip(d.BOMFormat))
	case d.SpecVersion != cycloneDXVersion:
		return fmt.Errorf("%w: specVersion is %q, want %q", ErrCycloneDX, clip(d.SpecVersion), cycloneDXVersion)
	case !strings.HasPrefix(d.SerialNumber, "urn:uuid:"):
		return fmt.Errorf("%w: serialNumber is %q, not a UUID", ErrCycloneDX, clip(d.SerialNumber))
	case d.Metadata.Timestamp == "":
		return fmt.Errorf("%w: metadata.timestamp is missing", ErrCycloneDX)
	case c == nil || c.Type != "container" || c.Name == "":
		return fmt.Errorf("%w: it does not say of which container it is", ErrCycloneDX)
	case !c.names(digest):
		return fmt.Errorf("%w: it does not describe %s", ErrCycloneDX, digest)
	default:
		return nil
	}
}

func (c *cycloneDXComponent) names(digest string) bool {
	if digest != "" && c.Version == digest || purlNames(c.PURL, digest) {
		return true
	}
	for _, h := range c.Hashes {
		if h.Algorithm == "SHA-256" && isDigest(h.Content, digest) {
			return true
		}
	}
	return false
}
