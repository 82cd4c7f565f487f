package sbom

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

const noAssertion = "NOASSERTION"

// details are what SPDX has no member for. They are the comment of an annotation,
// as JSON.
type details struct {
	Ecosystem     string `json:"ecosystem,omitempty"`
	SourceName    string `json:"sourceName,omitempty"`
	SourceVersion string `json:"sourceVersion,omitempty"`
	Location      string `json:"location,omitempty"`
	LayerDigest   string `json:"layerDigest,omitempty"`
}

// imageDetails are the same of the image.
type imageDetails struct {
	OS           string   `json:"os,omitempty"`
	Architecture string   `json:"architecture,omitempty"`
	Variant      string   `json:"variant,omitempty"`
	Layers       []string `json:"layers,omitempty"`
	Problems     []string `json:"problems,omitempty"`
	Created      string   `json:"created,omitempty"`
}

// spdxWriter makes one document.
type spdxWriter struct {
	report *scannerv1.Report
	at     time.Time
	doc    *v2_3.Document
}

// SPDX returns the SPDX 2.3 document of a report as JSON. name is what the image
// is called, for example `registry.example/team/app`; at is when it was scanned.
func SPDX(name string, r *scannerv1.Report, at time.Time) ([]byte, error) {
	w := &spdxWriter{report: r, at: at, doc: &v2_3.Document{
		SPDXVersion:    v2_3.Version,
		DataLicense:    v2_3.DataLicense,
		SPDXIdentifier: "DOCUMENT",
		DocumentName:   name + "@" + r.GetImageDigest(),
		CreationInfo: &v2_3.CreationInfo{
			Created:  timestamp(at),
			Creators: []common.Creator{{CreatorType: "Organization", Creator: "Seaworthy"}, {CreatorType: "Tool", Creator: tool(r)}},
		},
	}}
	root, err := w.image(name)
	if err != nil {
		return nil, err
	}
	w.add("DOCUMENT", common.TypeRelationshipDescribe, root)
	if d := r.GetFacts(); d.GetDistroId() != "" {
		w.add(root.PackageSPDXIdentifier, common.TypeRelationshipContains, &v2_3.Package{
			PackageName: d.GetDistroId(), PackageVersion: d.GetDistroVersion(), PackageSPDXIdentifier: osElement,
			PackageDownloadLocation: noAssertion, PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion,
			// The specification writes it with a hyphen, its JSON schema so.
			PackageCopyrightText: noAssertion, PrimaryPackagePurpose: "OPERATING_SYSTEM",
		})
	}
	for _, p := range r.GetPackages() {
		sp, err := w.pkg(p)
		if err != nil {
			return nil, err
		}
		w.add(root.PackageSPDXIdentifier, common.TypeRelationshipContains, sp)
	}
	slices.SortFunc(w.doc.OtherLicenses, func(a, b *v2_3.OtherLicense) int {
		return strings.Compare(a.LicenseIdentifier, b.LicenseIdentifier)
	})
	w.doc.OtherLicenses = slices.CompactFunc(w.doc.OtherLicenses, func(a, b *v2_3.OtherLicense) bool {
		return a.LicenseIdentifier == b.LicenseIdentifier
	})
	if w.doc.DocumentNamespace, err = namespace(w.doc); err != nil {
		return nil, err
	}
	out, err := json.Marshal(w.doc)
	if err != nil {
		return nil, fmt.Errorf("encode SPDX: %w", err)
	}
	return out, nil
}

// toolPrefix begins the name of the tool that wrote a document of ours.
const toolPrefix = "seaworthy-scanner-"

func tool(r *scannerv1.Report) string { return toolPrefix + version(r) }

// add puts a package into the document and relates it.
func (w *spdxWriter) add(from common.ElementID, kind string, p *v2_3.Package) {
	w.doc.Packages = append(w.doc.Packages, p)
	w.doc.Relationships = append(w.doc.Relationships, &v2_3.Relationship{
		RefA: common.DocElementID{ElementRefID: from}, RefB: common.DocElementID{ElementRefID: p.PackageSPDXIdentifier}, Relationship: kind,
	})
}

// namespace must be unique to the content of a document.
func namespace(doc *v2_3.Document) (string, error) {
	content, err := json.Marshal(doc)
	if err != nil {
		return "", fmt.Errorf("encode SPDX: %w", err)
	}
	sum := sha256.Sum256(content)
	return "https://seaworthy.dev/spdx/" + hex.EncodeToString(sum[:]), nil
}

func (w *spdxWriter) image(name string) (*v2_3.Package, error) {
	r := w.report
	note, err := w.annotation(imageDetails{
		OS: r.GetPlatform().GetOs(), Architecture: r.GetPlatform().GetArchitecture(), Variant: r.GetPlatform().GetVariant(),
		Layers: r.GetFacts().GetLayers(), Problems: r.GetProblems(), Created: imageCreated(r),
	})
	if err != nil {
		return nil, err
	}
	var sums []common.Checksum
	if r.GetImageDigest() != "" {
		sums = []common.Checksum{{Algorithm: common.SHA256, Value: sha256Of(r.GetImageDigest())}}
	}
	return &v2_3.Package{
		PackageName: name, PackageSPDXIdentifier: imageElement, PackageVersion: r.GetImageDigest(),
		PackageDownloadLocation: noAssertion, PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion,
		PackageCopyrightText: noAssertion, PrimaryPackagePurpose: "CONTAINER",
		PackageChecksums:          sums,
		PackageExternalReferences: []*v2_3.PackageExternalReference{purlReference(imageref.PURL(name, r.GetImageDigest()))},
		Annotations:               note,
	}, nil
}

func (w *spdxWriter) pkg(p *scannerv1.Package) (*v2_3.Package, error) {
	note, err := w.annotation(details{
		Ecosystem: p.GetEcosystem(), SourceName: p.GetSourceName(), SourceVersion: p.GetSourceVersion(),
		Location: p.GetLocation(), LayerDigest: p.GetLayerDigest(),
	})
	if err != nil {
		return nil, err
	}
	out := &v2_3.Package{
		PackageName: p.GetName(), PackageVersion: p.GetVersion(), PackageSPDXIdentifier: common.ElementID(elementID(p)),
		PackageDownloadLocation: noAssertion, PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion,
		PackageCopyrightText:      noAssertion,
		PackageSourceInfo:         "found at /" + p.GetLocation() + " in layer " + p.GetLayerDigest(),
		PackageExternalReferences: []*v2_3.PackageExternalReference{purlReference(p.GetPurl())},
		Annotations:               note,
	}
	if len(p.GetLicenses()) > 0 {
		out.PackageLicenseDeclared = expression(p.GetLicenses(), w.otherLicense)
	}
	return out, nil
}

// otherLicense declares what is no licence of the SPDX list in the document.
func (w *spdxWriter) otherLicense(declared string) string {
	ref := licenseRef(declared)
	w.doc.OtherLicenses = append(w.doc.OtherLicenses, &v2_3.OtherLicense{LicenseIdentifier: ref, ExtractedText: declared, LicenseName: noAssertion})
	return ref
}

func (w *spdxWriter) annotation(of any) ([]v2_3.Annotation, error) {
	content, err := json.Marshal(of)
	if err != nil {
		return nil, fmt.Errorf("encode SPDX: %w", err)
	}
	return []v2_3.Annotation{{
		Annotator:      common.Annotator{AnnotatorType: "Tool", Annotator: tool(w.report)},
		AnnotationDate: timestamp(w.at), AnnotationType: "OTHER", AnnotationComment: string(content),
	}}, nil
}

func purlReference(purl string) *v2_3.PackageExternalReference {
	return &v2_3.PackageExternalReference{Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: purl}
}
