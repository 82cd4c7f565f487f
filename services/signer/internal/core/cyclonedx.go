package core

import (
	"errors"
	"fmt"
	"strings"

	"github.com/seaworthy-dev/seaworthy/services/signer/internal/jsonstream"
)

// ErrCycloneDX is the cause of every document that is no CycloneDX document of its
// subject.
var ErrCycloneDX = errors.New("not a usable CycloneDX document")

const (
	cycloneDXVersion = "1.6"
	// maxHashes bounds the hashes of the component that the document is about.
	maxHashes = 64
)

// cycloneDXDocument is the part of a CycloneDX 1.6 document that says what it is
// about. It describes a manifest if its component, a container, has the manifest's
// digest as its SHA-256, as its version, or in its package URL.
type cycloneDXDocument struct {
	format, version, serial, timestamp string
	kind, name, componentVersion, purl string
	hash                               struct{ algorithm, content string }
	hashes                             []string // those that are SHA-256
}

func (d *cycloneDXDocument) shape() *jsonstream.Shape {
	type field = jsonstream.Field
	hash := &jsonstream.Shape{
		Fields: []field{{Name: "alg", Shape: keepText(&d.hash.algorithm)}, {Name: "content", Shape: keepText(&d.hash.content)}},
		Begin:  func() error { d.hash.algorithm, d.hash.content = "", ""; return nil },
		End: func() error {
			if len(d.hashes) == maxHashes {
				return fmt.Errorf("its component has more than %d hashes", maxHashes)
			}
			if d.hash.algorithm == "SHA-256" {
				d.hashes = append(d.hashes, d.hash.content)
			}
			return nil
		},
	}
	component := &jsonstream.Shape{Fields: []field{
		{Name: "type", Shape: keepText(&d.kind)}, {Name: "name", Shape: keepText(&d.name)},
		{Name: "version", Shape: keepText(&d.componentVersion)}, {Name: "purl", Shape: keepText(&d.purl)},
		{Name: "hashes", Shape: &jsonstream.Shape{Elements: hash}},
	}}
	return &jsonstream.Shape{Fields: []field{
		{Name: "bomFormat", Shape: keepText(&d.format)}, {Name: "specVersion", Shape: keepText(&d.version)},
		{Name: "serialNumber", Shape: keepText(&d.serial)},
		{Name: "metadata", Shape: &jsonstream.Shape{Fields: []field{
			{Name: "timestamp", Shape: keepText(&d.timestamp)}, {Name: "component", Shape: component},
		}}},
	}}
}

// check is called when all was read.
func (d *cycloneDXDocument) check(digest string) error {
	switch {
	case d.format != "CycloneDX":
		return fmt.Errorf("%w: bomFormat is %q", ErrCycloneDX, clip(d.format))
	case d.version != cycloneDXVersion:
		return fmt.Errorf("%w: specVersion is %q, want %q", ErrCycloneDX, clip(d.version), cycloneDXVersion)
	case !strings.HasPrefix(d.serial, "urn:uuid:"):
		return fmt.Errorf("%w: serialNumber is %q, not a UUID", ErrCycloneDX, clip(d.serial))
	case d.timestamp == "":
		return fmt.Errorf("%w: metadata.timestamp is missing", ErrCycloneDX)
	case d.kind != "container" || d.name == "":
		return fmt.Errorf("%w: it does not say of which container it is", ErrCycloneDX)
	case !d.names(digest):
		return fmt.Errorf("%w: it does not describe %s", ErrCycloneDX, digest)
	default:
		return nil
	}
}

func (d *cycloneDXDocument) names(digest string) bool {
	if digest != "" && d.componentVersion == digest || purlNames(d.purl, digest) {
		return true
	}
	for _, h := range d.hashes {
		if isDigest(h, digest) {
			return true
		}
	}
	return false
}
