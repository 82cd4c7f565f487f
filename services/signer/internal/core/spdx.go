package core

import (
	"errors"
	"fmt"
	"slices"

	"github.com/seaworthy-dev/seaworthy/services/signer/internal/jsonstream"
)

// ErrSPDX is the cause of every document that is no SPDX document of its subject.
var ErrSPDX = errors.New("not a usable SPDX document")

const (
	spdxVersion    = "SPDX-2.3"
	spdxDocumentID = "SPDXRef-DOCUMENT"
	// maxDescribed bounds what a document says that it describes, and the packages in
	// it that are its subject. Documents of images describe one thing.
	maxDescribed = 256
)

// spdxDocument is the part of an SPDX 2.3 document that says what it is about. A
// document describes a manifest if one of the packages that the document says it
// describes has the manifest's digest as its SHA256 checksum, as its version, or in a
// package URL.
type spdxDocument struct {
	subject                                     string
	version, id, dataLicense, name, ns, created string
	// described are the elements that it says it describes, named the packages that
	// are its subject.
	described, named []string

	pkg struct {
		id, version string
		names       bool
	}
	checksum struct{ algorithm, value string }
	relation struct{ element, kind, related string }
}

func newSPDXDocument(subject string) *spdxDocument { return &spdxDocument{subject: subject} }

// shape is what is read of a document.
func (d *spdxDocument) shape() *jsonstream.Shape {
	type field = jsonstream.Field
	checksum := &jsonstream.Shape{
		Fields: []field{{Name: "algorithm", Shape: keepText(&d.checksum.algorithm)}, {Name: "checksumValue", Shape: keepText(&d.checksum.value)}},
		Begin:  func() error { d.checksum.algorithm, d.checksum.value = "", ""; return nil },
		End: func() error {
			d.pkg.names = d.pkg.names || d.checksum.algorithm == "SHA256" && isDigest(d.checksum.value, d.subject)
			return nil
		},
	}
	locator := &jsonstream.Shape{Text: func(text []byte, cut bool) error {
		d.pkg.names = d.pkg.names || !cut && purlNames(string(text), d.subject)
		return nil
	}}
	pkg := &jsonstream.Shape{
		Fields: []field{
			{Name: "SPDXID", Shape: keepText(&d.pkg.id)}, {Name: "versionInfo", Shape: keepText(&d.pkg.version)},
			{Name: "checksums", Shape: &jsonstream.Shape{Elements: checksum}},
			{Name: "externalRefs", Shape: &jsonstream.Shape{Elements: &jsonstream.Shape{Fields: []field{{Name: "referenceLocator", Shape: locator}}}}},
		},
		Begin: func() error { d.pkg.id, d.pkg.version, d.pkg.names = "", "", false; return nil },
		End:   d.endPackage,
	}
	relation := &jsonstream.Shape{
		Fields: []field{
			{Name: "spdxElementId", Shape: keepText(&d.relation.element)}, {Name: "relationshipType", Shape: keepText(&d.relation.kind)},
			{Name: "relatedSpdxElement", Shape: keepText(&d.relation.related)},
		},
		Begin: func() error { d.relation.element, d.relation.kind, d.relation.related = "", "", ""; return nil },
		End: func() error {
			if d.relation.element == spdxDocumentID && d.relation.kind == "DESCRIBES" {
				return d.describe(d.relation.related)
			}
			return nil
		},
	}
	return &jsonstream.Shape{Fields: []field{
		{Name: "spdxVersion", Shape: keepText(&d.version)}, {Name: "SPDXID", Shape: keepText(&d.id)},
		{Name: "dataLicense", Shape: keepText(&d.dataLicense)}, {Name: "name", Shape: keepText(&d.name)},
		{Name: "documentNamespace", Shape: keepText(&d.ns)},
		{Name: "creationInfo", Shape: &jsonstream.Shape{Fields: []field{{Name: "created", Shape: keepText(&d.created)}}}},
		{Name: "documentDescribes", Shape: &jsonstream.Shape{Elements: &jsonstream.Shape{
			Text: func(text []byte, _ bool) error { return d.describe(string(text)) },
		}}},
		{Name: "packages", Shape: &jsonstream.Shape{Elements: pkg}},
		{Name: "relationships", Shape: &jsonstream.Shape{Elements: relation}},
	}}
}

func (d *spdxDocument) endPackage() error {
	if !d.pkg.names && (d.subject == "" || d.pkg.version != d.subject) {
		return nil
	}
	if len(d.named) == maxDescribed {
		return fmt.Errorf("more than %d packages are the image", maxDescribed)
	}
	d.named = append(d.named, d.pkg.id)
	return nil
}

func (d *spdxDocument) describe(element string) error {
	if len(d.described) == maxDescribed {
		return fmt.Errorf("it describes more than %d elements", maxDescribed)
	}
	d.described = append(d.described, element)
	return nil
}

// check is called when all was read.
func (d *spdxDocument) check(digest string) error {
	switch {
	case d.version != spdxVersion:
		return fmt.Errorf("%w: spdxVersion is %q, want %q", ErrSPDX, clip(d.version), spdxVersion)
	case d.id != spdxDocumentID:
		return fmt.Errorf("%w: SPDXID is %q, want %q", ErrSPDX, clip(d.id), spdxDocumentID)
	case d.dataLicense == "" || d.name == "" || d.ns == "":
		return fmt.Errorf("%w: dataLicense, name or documentNamespace is missing", ErrSPDX)
	case d.created == "":
		return fmt.Errorf("%w: creationInfo.created is missing", ErrSPDX)
	case len(d.described) == 0:
		return fmt.Errorf("%w: it says of nothing that it describes it", ErrSPDX)
	}
	for _, id := range d.named {
		if slices.Contains(d.described, id) {
			return nil
		}
	}
	return fmt.Errorf("%w: it does not describe %s", ErrSPDX, digest)
}

// clip bounds text of a document in an error message.
func clip(s string) string {
	const limit = 80
	if len(s) > limit {
		return s[:limit]
	}
	return s
}
