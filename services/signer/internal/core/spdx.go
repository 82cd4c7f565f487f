package core

import (
	"errors"
	"fmt"
	"slices"
)

// ErrSPDX is the cause of every document that CheckSPDX refuses.
var ErrSPDX = errors.New("not a usable SPDX document")

const (
	spdxVersion    = "SPDX-2.3"
	spdxDocumentID = "SPDXRef-DOCUMENT"
)

// spdxDocument is the part of an SPDX 2.3 document that says what it is about.
type spdxDocument struct {
	Version       string   `json:"spdxVersion"`
	ID            string   `json:"SPDXID"`
	DataLicense   string   `json:"dataLicense"`
	Name          string   `json:"name"`
	Namespace     string   `json:"documentNamespace"`
	Describes     []string `json:"documentDescribes"`
	Packages      []spdxPackage
	Relationships []spdxRelationship
	CreationInfo  *struct {
		Created string `json:"created"`
	} `json:"creationInfo"`
}

type spdxPackage struct {
	ID        string `json:"SPDXID"`
	Version   string `json:"versionInfo"`
	Checksums []struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	} `json:"checksums"`
	ExternalRefs []struct {
		Locator string `json:"referenceLocator"`
	} `json:"externalRefs"`
}

type spdxRelationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

// CheckSPDX reports whether doc is one SPDX 2.3 document in JSON that describes
// the manifest with the digest "sha256:<hex>". A document describes it if one of
// the packages that the document says it describes has the digest as its SHA256
// checksum, as its version, or in a package URL. Errors wrap ErrSPDX.
func CheckSPDX(doc []byte, digest string) error {
	var d spdxDocument
	if err := decodeOne(doc, &d); err != nil {
		return fmt.Errorf("%w: %w", ErrSPDX, err)
	}
	switch {
	case d.Version != spdxVersion:
		return fmt.Errorf("%w: spdxVersion is %q, want %q", ErrSPDX, clip(d.Version), spdxVersion)
	case d.ID != spdxDocumentID:
		return fmt.Errorf("%w: SPDXID is %q, want %q", ErrSPDX, clip(d.ID), spdxDocumentID)
	case d.DataLicense == "" || d.Name == "" || d.Namespace == "":
		return fmt.Errorf("%w: dataLicense, name or documentNamespace is missing", ErrSPDX)
	case d.CreationInfo == nil || d.CreationInfo.Created == "":
		return fmt.Errorf("%w: creationInfo.created is missing", ErrSPDX)
	}
	described := slices.Clone(d.Describes)
	for _, r := range d.Relationships {
		if r.Element == spdxDocumentID && r.Type == "DESCRIBES" {
			described = append(described, r.Related)
		}
	}
	if len(described) == 0 {
		return fmt.Errorf("%w: it says of nothing that it describes it", ErrSPDX)
	}
	for _, p := range d.Packages {
		if slices.Contains(described, p.ID) && p.names(digest) {
			return nil
		}
	}
	return fmt.Errorf("%w: it does not describe %s", ErrSPDX, digest)
}

func (p spdxPackage) names(digest string) bool {
	if digest != "" && p.Version == digest {
		return true
	}
	for _, c := range p.Checksums {
		if c.Algorithm == "SHA256" && isDigest(c.Value, digest) {
			return true
		}
	}
	for _, r := range p.ExternalRefs {
		if purlNames(r.Locator, digest) {
			return true
		}
	}
	return false
}

// clip bounds text of a document in an error message.
func clip(s string) string {
	const limit = 80
	if len(s) > limit {
		return s[:limit]
	}
	return s
}
