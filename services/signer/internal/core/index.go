package core

import (
	"errors"
	"fmt"
	"strings"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
)

// Child is a platform manifest of an index with the report that was made of it.
type Child struct {
	// Report of the manifest.
	Report
	// Platform is "os/architecture" or "os/architecture/variant".
	Platform string
	// MediaType of the manifest, as the index says; empty if the index does not
	// name it itself.
	MediaType string
}

// The field names are those of the in-toto predicate "reference v0.1"
// (in-toto/attestation spec/predicates/reference.md) and of its ResourceDescriptor.
type (
	referencePredicate struct {
		Attester   referenceAttester   `json:"attester"`
		References []resource          `json:"references"`
		Extension  referenceExtensions `json:"https://seaworthy.dev/index/v1"`
	}
	referenceAttester struct {
		ID string `json:"id"`
	}
	resource struct {
		Name             string            `json:"name"`
		URI              string            `json:"uri"`
		Digest           map[string]string `json:"digest"`
		DownloadLocation string            `json:"downloadLocation"`
		MediaType        string            `json:"mediaType"`
		Annotations      childAnnotations  `json:"annotations"`
	}
	childAnnotations struct {
		Platform     string `json:"platform"`
		ReportDigest string `json:"reportDigest"`
		Findings     int    `json:"findings"`
		Incomplete   bool   `json:"incomplete"`
	}
	// Fields of others are to be named by a URI.
	referenceExtensions struct {
		ScanID         string `json:"scanId"`
		ScanFinishedOn string `json:"scanFinishedOn"`
	}
)

const (
	attesterID = "https://seaworthy.dev/signer"
	// unknownMediaType is what the specification wants for documents of unknown type.
	unknownMediaType = "application/octet-stream"
)

// IndexReference builds the claim about an index: which manifests of it were
// scanned, and the digest of the report of each. The evidence itself is attached
// to the manifests. registry and repository are where the index is.
func IndexReference(scan Scan, registry, repository string, children []Child) (Predicate, error) {
	if len(children) == 0 {
		return Predicate{}, errors.New("an index without manifests")
	}
	if scan.EndTime.IsZero() {
		return Predicate{}, fmt.Errorf("scan %s has no end time", scan.ID)
	}
	p := referencePredicate{
		Attester:  referenceAttester{ID: attesterID},
		Extension: referenceExtensions{ScanID: scan.ID, ScanFinishedOn: timestamp(scan.EndTime)},
	}
	name := registry + "/" + repository
	for _, c := range children {
		r := resource{
			Name: name, URI: imageref.PURL(name, c.ImageDigest), Digest: digestSet(c.ImageDigest),
			// How a client reaches the registry, with TLS or without, is its own
			// configuration; the locator says neither.
			DownloadLocation: "oci://" + name + "@" + c.ImageDigest, MediaType: c.MediaType,
			Annotations: childAnnotations{
				Platform: c.Platform, ReportDigest: Digest(c.Canonical), Findings: len(c.Findings), Incomplete: c.Incomplete,
			},
		}
		if r.MediaType == "" {
			r.MediaType = unknownMediaType
		}
		p.References = append(p.References, r)
	}
	references, err := marshal(p.References)
	if err != nil {
		return Predicate{}, err
	}
	doc, err := marshal(p)
	return Predicate{Type: PredicateReference, ContentKey: Digest(references), Time: scan.EndTime, JSON: doc}, err
}

// PlatformName joins the parts that are not empty.
func PlatformName(parts ...string) string {
	var out []string
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return strings.Join(out, "/")
}

// ManifestsOf reads the digests and media types of the manifests that an index lists.
func ManifestsOf(index []byte) (map[string]string, error) {
	var doc struct {
		Manifests []struct {
			MediaType string `json:"mediaType"`
			Digest    string `json:"digest"`
		} `json:"manifests"`
	}
	if err := strictjson.Unmarshal(index, &doc); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	out := make(map[string]string, len(doc.Manifests))
	for _, m := range doc.Manifests {
		out[m.Digest] = m.MediaType
	}
	return out, nil
}
