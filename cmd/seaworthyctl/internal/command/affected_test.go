package command_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
)

func TestAffected(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	moved := ledger()
	moved.Tag = ""
	f.scanner.affected = []*scannerv1.ListAffectedImagesResponse{
		{NextPageToken: "next", Images: []*typev1.ImageRef{ledger()}, Affected: []*scannerv1.AffectedImage{{
			ImageDigest: digestA, Images: []*typev1.ImageRef{ledger()},
			Findings: []*scannerv1.Finding{{Id: "CVE-2021-44228", PackageName: "log4j-core", PackageVersion: "2.14.1", FixedVersions: []string{"2.15.0", "2.12.2"}}},
		}}},
		{Images: []*typev1.ImageRef{moved}, Affected: []*scannerv1.AffectedImage{{
			ImageDigest: digestB, Images: []*typev1.ImageRef{moved},
			Packages: []*scannerv1.Package{{Name: "log4j-core", Version: "2.14.0"}},
		}}},
	}
	f.golden("affected", f.run("affected", "CVE-2021-44228"))
	want := &scannerv1.ListAffectedImagesRequest{AdvisoryId: "CVE-2021-44228", PageSize: 1000, PageToken: "next"}
	if d := cmp.Diff(want, f.scanner.asked(), protocmp.Transform()); d != "" {
		t.Errorf("request (-want +got):\n%s", d)
	}
	f.golden("affected-json", f.run("affected", "pkg:maven/org.apache.logging.log4j/log4j-core", "-o", "json"))
	want = &scannerv1.ListAffectedImagesRequest{Purl: "pkg:maven/org.apache.logging.log4j/log4j-core", PageSize: 1000, PageToken: "next"}
	if d := cmp.Diff(want, f.scanner.asked(), protocmp.Transform()); d != "" {
		t.Errorf("request (-want +got):\n%s", d)
	}
	f.scanner.affected = []*scannerv1.ListAffectedImagesResponse{{}}
	f.golden("affected-none", f.run("affected", "CVE-2021-44228"))
	f.scanner.err = apierr.New(codes.NotFound, "ADVISORY_NOT_FOUND", "no advisory of the snapshot in use has this id or names it")
	f.golden("affected-unknown", f.run("affected", "CVE-2021-44229"))
}
