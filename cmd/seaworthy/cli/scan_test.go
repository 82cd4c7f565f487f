package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	scanner "github.com/seaworthy-dev/seaworthy/services/scanner/app"
)

const demoAdvisories = "../../../deploy/advisories"

// document is a bill of materials with a package that has a critical and one that
// has no known vulnerability.
func document(t *testing.T, extra string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "app.json")
	write(t, file)
	content := `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[
		{"type":"operating-system","name":"debian","version":"12"},` + extra + `
		{"type":"library","name":"libcurl4","purl":"pkg:deb/debian/libcurl4@7.88.1-10%2Bdeb12u3?upstream=curl&distro=debian-12"},
		{"type":"library","name":"safe","purl":"pkg:npm/safe@1.0.0"}]}`
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return "sbom:" + file
}

func runMain(t *testing.T, args ...string) (code int, out, logs string) {
	t.Helper()
	var o, l bytes.Buffer
	code = Main(t.Context(), args, &o, &l)
	return code, o.String(), l.String()
}

func TestScan_exitCodes(t *testing.T) {
	target := document(t, "")
	incomplete := document(t, `{"type":"library","name":"nobody knows"},`)
	for _, c := range []struct {
		name string
		args []string
		want int
		log  string
	}{
		{"findings alone are no failure", []string{target}, 0, ""},
		{"met", []string{target, "--fail-on", "high"}, 1, "1 findings"},
		{"met with a fix", []string{target, "--fail-on", "kev,fixable:critical"}, 1, "1 findings"},
		{"not met", []string{target, "--fail-on", "kev"}, 0, ""},
		{"not met, but who knows", []string{incomplete, "--fail-on", "kev"}, 3, "no package URL"},
		{"met, whoever knows", []string{incomplete, "--fail-on", "low"}, 1, ""},
		{"incomplete, nothing asked", []string{incomplete}, 0, ""},
		{"no such file", []string{"sbom:/nowhere"}, 2, "no such file"},
		{"no such condition", []string{target, "--fail-on", "bad"}, 2, "is neither"},
		{"no such format", []string{target, "-o", "xml"}, 2, "is not known"},
		{"no such platform", []string{target, "--platform", "linux"}, 2, "OS/ARCH"},
		{"no target", nil, 2, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, logs := runMain(t, append([]string{"scan", "--advisories", demoAdvisories}, c.args...)...)
			if code != c.want || !strings.Contains(logs, c.log) {
				t.Errorf("exit code %d, want %d\n%s%s", code, c.want, out, logs)
			}
		})
	}
	if code, _, logs := runMain(t, "scan", target); code != 2 || !strings.Contains(logs, "without --advisories") {
		t.Errorf("without advisories: %d, %s", code, logs)
	}
}

func TestScan_formats(t *testing.T) {
	target := document(t, "")
	for format, want := range map[string]string{
		"table":          "CVE-2023-38545",
		"json":           `"findingCount":1`,
		"spdx-json":      `"spdxVersion":"SPDX-2.3"`,
		"cyclonedx-json": `"specVersion":"1.6"`,
		"sarif":          `"version":"2.1.0"`,
		"cosign-vuln":    `"builder.id":`,
	} {
		code, out, logs := runMain(t, "scan", "--advisories", demoAdvisories, "-o", format, target)
		if code != 0 || !strings.Contains(strings.ReplaceAll(out, `": "`, `":"`), want) || logs != "" {
			t.Errorf("%s: %d, no %s in\n%s%s", format, code, want, out, logs)
		}
		if format != "table" && !json.Valid([]byte(out)) {
			t.Errorf("%s is not JSON", format)
		}
		if strings.HasSuffix(format, "x-json") {
			if code, _, logs := runMain(t, "scan", "-o", format, target); code != 0 {
				t.Errorf("%s without advisories: %d, %s", format, code, logs)
			}
		}
		file := filepath.Join(t.TempDir(), "out")
		var content []byte
		// Documents hold the second in which they were made.
		for range 5 {
			start := time.Now().Unix()
			_, out, _ = runMain(t, "scan", "--advisories", demoAdvisories, "-o", format, target)
			if code, out, _ := runMain(t, "scan", "--advisories", demoAdvisories, "-o", format, "--output-file", file, target); code != 0 || out != "" {
				t.Errorf("%s to a file: %d, %s", format, code, out)
			}
			var err error
			if content, err = os.ReadFile(file); err != nil {
				t.Fatal(err)
			}
			if time.Now().Unix() == start {
				break
			}
		}
		if format != "cosign-vuln" && string(content) != out {
			t.Errorf("%s in a file:\n%s", format, content)
		}
	}
}

// TestScan_snapshot: a snapshot file is what the records are that it was built of.
func TestScan_snapshot(t *testing.T) {
	target, file := document(t, ""), filepath.Join(t.TempDir(), "osv.snapshot")
	code, out, logs := runMain(t, "advisories", "build", "--output-file", file, demoAdvisories)
	if code != 0 || !strings.Contains(out, "26 advisories, 0 refused") || !strings.HasPrefix(out, "sha256:") {
		t.Fatalf("%d, %s%s", code, out, logs)
	}
	_, want, _ := runMain(t, "scan", "--advisories", demoAdvisories, "-o", "json", target)
	if code, got, logs := runMain(t, "scan", "--advisories", file, "-o", "json", target); code != 0 || got != want {
		t.Errorf("%d, %s\n%s, want\n%s", code, logs, got, want)
	}
	if code, _, logs := runMain(t, "scan", "--advisories", strings.TrimPrefix(target, "sbom:"), target); code != 2 || logs == "" {
		t.Errorf("a document as advisories: %d, %s", code, logs)
	}
	write(t, file)
	if code, _, logs := runMain(t, "scan", "--advisories", file, target); code != 2 || !strings.Contains(logs, "corrupt") {
		t.Errorf("no snapshot: %d, %s", code, logs)
	}
}

func TestScan_emptyLayout(t *testing.T) {
	dir := t.TempDir()
	if _, err := layout.Write(dir, empty.Index); err != nil {
		t.Fatal(err)
	}
	if code, _, logs := runMain(t, "scan", "--advisories", demoAdvisories, "oci:"+dir); code != 2 || !strings.Contains(logs, "has no image") {
		t.Errorf("%d, %s", code, logs)
	}
}

func TestGate(t *testing.T) {
	high := &scannerv1.Finding{Severity: typev1.Severity_SEVERITY_HIGH}
	fixed := &scannerv1.Finding{Severity: typev1.Severity_SEVERITY_HIGH, FixedVersions: []string{"2"}}
	known := &scannerv1.Finding{Severity: typev1.Severity_SEVERITY_LOW, Kev: true}
	for _, c := range []struct {
		conditions string
		finding    *scannerv1.Finding
		want       bool
	}{
		{"critical", high, false}, {"high", high, true}, {"Medium", high, true},
		{"fixable:high", high, false}, {"fixable:high", fixed, true},
		{"kev", high, false}, {"kev", known, true}, {"fixable:kev", known, false}, {"critical, kev", known, true},
	} {
		g, err := parseGate(c.conditions)
		if err != nil {
			t.Fatal(err)
		}
		err = g.judge(&scannerv1.Report{Findings: []*scannerv1.Finding{c.finding}})
		if (err != nil) != c.want {
			t.Errorf("%s: %v for %v", c.conditions, err, c.finding)
		}
	}
}

// TestProgress: the line is drawn, and wiped at the end; what is no terminal stays
// quiet.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		stop := drawProgress(&b, &scanner.ScanProgress{})
		time.Sleep(3 * progressInterval)
		stop()
		if s := b.String(); !strings.Contains(s, "manifest") || !strings.HasSuffix(s, "\r\x1b[K") {
			t.Errorf("%q", s)
		}
	})
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	showProgress(file, &scanner.ScanProgress{}, false)()
	if info, err := file.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("%v bytes in a file, %v", info.Size(), err)
	}
}
