package formats_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/formats"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/wire"
)

var (
	scanStart = time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	scanEnd   = scanStart.Add(time.Second)
)

func report() *scannerv1.Report {
	return &scannerv1.Report{
		ImageDigest: "sha256:00", Scanner: &scannerv1.ScannerInfo{Uri: "https://seaworthy.dev/scanner", Version: "1"},
		Snapshot: &scannerv1.SnapshotInfo{Digest: "sha256:01"}, Incomplete: true, Problems: []string{"a.jar: no <zip>"},
		Findings: []*scannerv1.Finding{
			{Id: "CVE-2", Purl: "pkg:npm/b@1", PackageName: "b", PackageVersion: "1", Severity: typev1.Severity_SEVERITY_MEDIUM, Location: "x y/ü.json"},
			{Id: "CVE-1", Aliases: []string{"CVE-1", "GHSA-1"}, Purl: "pkg:npm/a@1", PackageName: "a", PackageVersion: "1", Summary: "<script>",
				Severity: typev1.Severity_SEVERITY_CRITICAL, CvssScore: 9.8, FixedVersions: []string{"2"}, Location: "a"},
			{Id: "CVE-1", Purl: "pkg:npm/b@1", PackageName: "b", PackageVersion: "1", Severity: typev1.Severity_SEVERITY_UNKNOWN, Location: "b"},
		},
	}
}

func TestCosignVuln(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	content, err := formats.CosignVuln(report(), start, start.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Invocation map[string]any
		Scanner    struct {
			URI, Version string
			DB           map[string]string
			Result       json.RawMessage
		}
		Metadata map[string]string
	}
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	uri := "https://seaworthy.dev/scanner"
	want := map[string]any{"parameters": []any{}, "uri": uri, "event_id": "", "builder.id": uri}
	if diff := cmp.Diff(want, got.Invocation); diff != "" || got.Scanner.URI != uri || got.Scanner.DB["version"] != "sha256:01" {
		t.Errorf("predicate %s\n%s", content, diff)
	}
	if got.Metadata["scanStartedOn"] != "2026-01-02T02:04:05.000000006Z" || got.Metadata["scanFinishedOn"] != "2026-01-02T02:04:06.000000006Z" {
		t.Errorf("times %v", got.Metadata)
	}
	if canonical, _, err := wire.Canonical(report()); err != nil || !bytes.Equal(got.Scanner.Result, canonical) {
		t.Errorf("the result is not the canonical report: %v\n%s", err, got.Scanner.Result)
	}
}

// sarif is the part of SARIF 2.1.0 that readers depend on.
type sarif struct {
	Version string
	Runs    []struct {
		Tool struct {
			Driver struct {
				Name  string
				Rules []struct {
					ID         string
					Properties map[string]any
				}
			}
		}
		Results []struct {
			RuleID    string
			RuleIndex int
			Level     string
			Message   struct{ Text string }
			Locations []struct {
				PhysicalLocation struct {
					ArtifactLocation struct{ URI string }
				}
			}
			PartialFingerprints map[string]string
		}
		Invocations []struct {
			StartTimeUtc, EndTimeUtc   string
			ExecutionSuccessful        *bool
			ToolExecutionNotifications []struct{ Message struct{ Text string } }
		}
	}
}

func TestSARIF(t *testing.T) {
	content, err := formats.SARIF("app", report(), scanStart, scanEnd)
	if err != nil {
		t.Fatal(err)
	}
	var log sarif
	if err := json.Unmarshal(content, &log); err != nil || log.Version != "2.1.0" || len(log.Runs) != 1 {
		t.Fatalf("%v: %s", err, content)
	}
	run := log.Runs[0]
	var got []string
	prints := map[string]bool{}
	for _, r := range run.Results {
		if run.Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID {
			t.Errorf("result of %s points to rule %d", r.RuleID, r.RuleIndex)
		}
		prints[r.PartialFingerprints["seaworthy/v1"]] = true
		got = append(got, r.RuleID+" "+r.Level+" "+r.Locations[0].PhysicalLocation.ArtifactLocation.URI+" "+r.Message.Text)
	}
	want := []string{
		"CVE-1 error a a 1 has CVE-1, fixed in 2", "CVE-1 note b b 1 has CVE-1", "CVE-2 warning x%20y/%C3%BC.json b 1 has CVE-2",
	}
	if !slices.Equal(got, want) || len(prints) != 3 || len(run.Tool.Driver.Rules) != 2 {
		t.Errorf("results %q, %d fingerprints, rules %v", got, len(prints), run.Tool.Driver.Rules)
	}
	if s := run.Tool.Driver.Rules[0].Properties["security-severity"]; s != "9.8" {
		t.Errorf("score %v", s)
	}
	if i := run.Invocations[0]; i.StartTimeUtc != "2026-01-02T02:04:05Z" || i.EndTimeUtc != "2026-01-02T02:04:06Z" {
		t.Errorf("times of the scan: %+v", i)
	}
	if i := run.Invocations[0]; *i.ExecutionSuccessful || len(i.ToolExecutionNotifications) != 1 {
		t.Errorf("an incomplete report is %+v", i)
	}
	if again, err := formats.SARIF("app", report(), scanStart, scanEnd); err != nil || !bytes.Equal(content, again) {
		t.Errorf("not the same twice: %v", err)
	}
}

func TestSARIF_nothing(t *testing.T) {
	content, err := formats.SARIF("app", &scannerv1.Report{}, time.Time{}, time.Time{})
	if err != nil || !bytes.Contains(content, []byte(`"results":[]`)) || !bytes.Contains(content, []byte(`"executionSuccessful":true`)) {
		t.Errorf("%v: %s", err, content)
	}
}
