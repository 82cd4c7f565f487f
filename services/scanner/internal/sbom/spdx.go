// Package sbom makes bills of materials of reports. The same report gives the
// same bytes: nothing in them is a reading of a clock or of a random source.
package sbom

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/package-url/packageurl-go"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
)

const noAssertion = "NOASSERTION"

// SPDX returns the SPDX 2.3 document of a report as JSON. name is what the image
// is called, for example `registry.example/team/app`.
func SPDX(name string, r *scannerv1.Report) ([]byte, error) {
	root := imagePackage(name, r)
	doc := &v2_3.Document{
		SPDXVersion:    v2_3.Version,
		DataLicense:    v2_3.DataLicense,
		SPDXIdentifier: "DOCUMENT",
		DocumentName:   name + "@" + r.GetImageDigest(),
		CreationInfo: &v2_3.CreationInfo{
			Created:  created(r),
			Creators: []common.Creator{{CreatorType: "Organization", Creator: "Seaworthy"}, {CreatorType: "Tool", Creator: "seaworthy-scanner-" + version(r)}},
		},
		Packages:      []*v2_3.Package{root},
		Relationships: []*v2_3.Relationship{relationship("DOCUMENT", common.TypeRelationshipDescribe, root.PackageSPDXIdentifier)},
	}
	for _, p := range r.GetPackages() {
		sp := spdxPackage(p)
		doc.Packages = append(doc.Packages, sp)
		doc.Relationships = append(doc.Relationships, relationship(root.PackageSPDXIdentifier, common.TypeRelationshipContains, sp.PackageSPDXIdentifier))
	}
	var err error
	if doc.DocumentNamespace, err = namespace(doc); err != nil {
		return nil, err
	}
	out, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode SPDX: %w", err)
	}
	return out, nil
}

// created is the image's own time: the document says nothing that was not true
// then.
func created(r *scannerv1.Report) string {
	t := time.Unix(0, 0)
	if c := r.GetFacts().GetCreateTime(); c != nil && c.AsTime().Year() >= 1970 && c.AsTime().Year() <= 9999 {
		t = c.AsTime()
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

func version(r *scannerv1.Report) string {
	if v := r.GetScanner().GetVersion(); v != "" {
		return v
	}
	return "unknown"
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

func imagePackage(name string, r *scannerv1.Report) *v2_3.Package {
	last := name[strings.LastIndex(name, "/")+1:]
	var q packageurl.Qualifiers
	if a := r.GetPlatform().GetArchitecture(); a != "" {
		q = append(q, packageurl.Qualifier{Key: "arch", Value: a})
	}
	q = append(q, packageurl.Qualifier{Key: "repository_url", Value: name})
	_, hexDigest, _ := strings.Cut(r.GetImageDigest(), ":")
	return &v2_3.Package{
		PackageName: name, PackageSPDXIdentifier: "Image", PackageVersion: r.GetImageDigest(),
		PackageDownloadLocation: noAssertion, PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion,
		PackageCopyrightText: noAssertion, PrimaryPackagePurpose: "CONTAINER",
		PackageChecksums: []common.Checksum{{Algorithm: common.SHA256, Value: hexDigest}},
		PackageExternalReferences: []*v2_3.PackageExternalReference{
			purlReference(packageurl.NewPackageURL(packageurl.TypeOCI, "", strings.ToLower(last), r.GetImageDigest(), q, "").ToString()),
		},
	}
}

func spdxPackage(p *scannerv1.Package) *v2_3.Package {
	sum := sha256.Sum256([]byte(p.GetPurl() + "\x00" + p.GetLocation()))
	out := &v2_3.Package{
		PackageName: p.GetName(), PackageVersion: p.GetVersion(),
		PackageSPDXIdentifier:   common.ElementID("Package-" + hex.EncodeToString(sum[:12])),
		PackageDownloadLocation: noAssertion, PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion,
		PackageCopyrightText:      noAssertion,
		PackageSourceInfo:         "found at /" + p.GetLocation() + " in layer " + p.GetLayerDigest(),
		PackageExternalReferences: []*v2_3.PackageExternalReference{purlReference(p.GetPurl())},
	}
	if len(p.GetLicenses()) > 0 {
		// What packages declare is often no valid SPDX expression, and an invalid one
		// would make the document invalid.
		out.PackageLicenseComments = "declared by the package as: " + strings.Join(p.GetLicenses(), "; ")
	}
	return out
}

func purlReference(purl string) *v2_3.PackageExternalReference {
	return &v2_3.PackageExternalReference{Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: purl}
}

func relationship(from common.ElementID, kind string, to common.ElementID) *v2_3.Relationship {
	return &v2_3.Relationship{
		RefA: common.DocElementID{ElementRefID: from}, RefB: common.DocElementID{ElementRefID: to}, Relationship: kind,
	}
}
