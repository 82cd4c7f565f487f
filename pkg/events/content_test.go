package events_test

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
)

func contentOf(t *testing.T, r *scannerv1.Report) string {
	t.Helper()
	d, err := events.ContentDigest(r)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestContentDigest changes a report in every way: what rules can read changes the
// digest, and the name of the occasion does not.
func TestContentDigest(t *testing.T) {
	t.Parallel()
	report := &scannerv1.Report{
		ImageDigest: "sha256:1", Platform: &typev1.Platform{Os: "linux"}, Facts: &scannerv1.ImageFacts{User: "app"},
		Packages: []*scannerv1.Package{{Purl: "pkg:deb/debian/a@1", Ecosystem: "Debian:12"}},
		Findings: []*scannerv1.Finding{{Id: "CVE-1", Severity: typev1.Severity_SEVERITY_LOW}},
		Snapshot: &scannerv1.SnapshotInfo{Digest: "sha256:s", Ecosystems: []string{"Debian", "Go"}},
		Scanner:  &scannerv1.ScannerInfo{Version: "1"},
	}
	same := contentOf(t, report)
	for name, change := range map[string]func(*scannerv1.Report){
		"snapshot digest":  func(r *scannerv1.Report) { r.Snapshot.Digest = "sha256:t" },
		"snapshot time":    func(r *scannerv1.Report) { r.Snapshot.DataTime = timestamppb.Now() },
		"snapshot counts":  func(r *scannerv1.Report) { r.Snapshot.AdvisoryCount, r.Snapshot.RejectedCount = 1, 2 },
		"scanner":          func(r *scannerv1.Report) { r.Scanner.Version = "2" },
		"other ecosystem":  func(r *scannerv1.Report) { r.Snapshot.Ecosystems = []string{"Debian"} },
		"ecosystem order":  func(r *scannerv1.Report) { r.Snapshot.Ecosystems = []string{"Go", "Debian"} },
		"counts of a view": func(r *scannerv1.Report) { r.PackageCount, r.FindingCount = 1, 1 },
		"digest itself":    func(r *scannerv1.Report) { r.ContentDigest = "sha256:c" },
	} {
		r := proto.CloneOf(report)
		change(r)
		if contentOf(t, r) != same {
			t.Errorf("%s changes the digest", name)
		}
	}
	seen := map[string]string{same: "the report"}
	for name, change := range map[string]func(*scannerv1.Report){
		"finding":       func(r *scannerv1.Report) { r.Findings = append(r.Findings, &scannerv1.Finding{Id: "CVE-2"}) },
		"no finding":    func(r *scannerv1.Report) { r.Findings = nil },
		"severity":      func(r *scannerv1.Report) { r.Findings[0].Severity = typev1.Severity_SEVERITY_CRITICAL },
		"exploited":     func(r *scannerv1.Report) { r.Findings[0].Kev = true },
		"probability":   func(r *scannerv1.Report) { r.Findings[0].Epss = 0.5 },
		"fix":           func(r *scannerv1.Report) { r.Findings[0].FixedVersions = []string{"2"} },
		"package":       func(r *scannerv1.Report) { r.Packages[0].Licenses = []string{"MIT"} },
		"incomplete":    func(r *scannerv1.Report) { r.Incomplete = true },
		"problem":       func(r *scannerv1.Report) { r.Problems = []string{"unreadable"} },
		"facts":         func(r *scannerv1.Report) { r.Facts.User = "" },
		"platform":      func(r *scannerv1.Report) { r.Platform.Os = "windows" },
		"coverage lost": func(r *scannerv1.Report) { r.Snapshot.Ecosystems = []string{"Go"} },
		"image":         func(r *scannerv1.Report) { r.ImageDigest = "sha256:2" },
	} {
		r := proto.CloneOf(report)
		change(r)
		d := contentOf(t, r)
		if other, ok := seen[d]; ok {
			t.Errorf("%s: the digest is that of %s", name, other)
		}
		seen[d] = name
	}
	if contentOf(t, nil) != contentOf(t, &scannerv1.Report{}) {
		t.Error("no report is not answered like an empty one")
	}
}
