package sbom_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	spdxjson "github.com/spdx/tools-golang/json"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/sbom"
)

// scanned is when the images of the tests were scanned, long after they were made.
var scanned = time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)

func report() *scannerv1.Report {
	return &scannerv1.Report{
		ImageDigest: "sha256:" + strings.Repeat("0", 64), Platform: &typev1.Platform{Os: "linux", Architecture: "amd64"},
		Facts:   &scannerv1.ImageFacts{CreateTime: timestamppb.New(time.Date(2024, 1, 2, 3, 4, 5, 999, time.UTC)), DistroId: "debian", DistroVersion: "12", Layers: []string{"sha256:01"}},
		Scanner: &scannerv1.ScannerInfo{Version: "1.2.3"},
		Packages: []*scannerv1.Package{
			{Purl: "pkg:npm/a@1", Name: "a", Version: "1", Location: "x/package.json", LayerDigest: "sha256:01", Licenses: []string{"custom licence"}},
			{Purl: "pkg:npm/a@1", Name: "a", Version: "1", Location: "y/package.json", LayerDigest: "sha256:01"},
			{Purl: "pkg:golang/main", Name: "main", Location: "app"},
			{Purl: "pkg:npm/b@1", Name: "b", Version: "1", Location: "b/package.json", Licenses: []string{"MIT", "Apache-2.0 OR GPL-2.0-only"}},
			{Purl: "pkg:maven/org.x/y@1", Name: "org.x:y", Version: "1", Location: "y.jar", Licenses: []string{"MIT", "custom licence"}, Ecosystem: "Maven"},
			{Purl: "pkg:npm/c@1", Name: "c", Version: "1", Location: "c/package.json", Licenses: []string{"LicenseRef-own", "NOASSERTION"}},
		},
	}
}

// TestSPDX reads the document back with the library of the SPDX project.
func TestSPDX(t *testing.T) {
	content, err := sbom.SPDX("r.example/team/app", report(), scanned)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := spdxjson.Read(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if doc.SPDXVersion != "SPDX-2.3" || doc.CreationInfo.Created != "2026-03-04T05:06:07Z" || len(doc.Packages) != 8 || len(doc.Relationships) != 8 {
		t.Errorf("document %s", content)
	}
	ids := map[string]bool{}
	for _, p := range doc.Packages {
		ids[string(p.PackageSPDXIdentifier)] = true
		if len(p.PackageExternalReferences) != 1 && p.PrimaryPackagePurpose != "OPERATING_SYSTEM" {
			t.Errorf("package %s has no purl", p.PackageName)
		}
	}
	if len(ids) != 8 {
		t.Errorf("identifiers %v", ids)
	}
	const custom = "LicenseRef-9827295e2aabd454"
	want := []string{custom, "NOASSERTION", "NOASSERTION", "MIT AND (Apache-2.0 OR GPL-2.0-only)", "MIT AND " + custom, "LicenseRef-6b8a93f789451ea6 AND LicenseRef-8560fc6692684d8d"}
	for i, p := range doc.Packages[2:] {
		if p.PackageLicenseDeclared != want[i] {
			t.Errorf("licence of %s is %q, want %q", p.PackageName, p.PackageLicenseDeclared, want[i])
		}
	}
	if len(doc.OtherLicenses) != 3 {
		t.Errorf("licences %v", doc.OtherLicenses)
	}
}

func TestSPDXIsDeterministic(t *testing.T) {
	first, err := sbom.SPDX("a", report(), scanned)
	if err != nil {
		t.Fatal(err)
	}
	other := report()
	// Another snapshot is not another bill of materials.
	other.Snapshot = &scannerv1.SnapshotInfo{Digest: "sha256:02"}
	again, err := sbom.SPDX("a", other, scanned)
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("documents differ: %v", err)
	}
	changed := proto.CloneOf(report())
	changed.Packages = changed.Packages[:1]
	changed.Facts = nil
	if third, err := sbom.SPDX("a", changed, scanned); err != nil || bytes.Equal(first, third) {
		t.Errorf("another content has the same document: %v", err)
	}
}
