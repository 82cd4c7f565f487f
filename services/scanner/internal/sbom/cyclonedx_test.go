package sbom_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/santhosh-tekuri/jsonschema/v6"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/sbom"
)

// TestCycloneDX reads the document back with the library of the CycloneDX project
// and holds it against the project's own schema.
func TestCycloneDX(t *testing.T) {
	schema := cycloneDXSchema(t)
	incomplete := report()
	incomplete.Incomplete, incomplete.Problems = true, []string{"app.jar: larger than 5 bytes"}
	bare := report()
	bare.Packages, bare.Facts, bare.Platform = nil, nil, nil
	for name, r := range map[string]*scannerv1.Report{"report": report(), "incomplete": incomplete, "empty": bare} {
		t.Run(name, func(t *testing.T) {
			content, err := sbom.CycloneDX("r.example/team/app", r, scanned)
			if err != nil {
				t.Fatal(err)
			}
			doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(doc); err != nil {
				t.Errorf("%v\n%s", err, content)
			}
			var bom cdx.BOM
			if err := cdx.NewBOMDecoder(bytes.NewReader(content), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
				t.Fatal(err)
			}
			if got := bom.Metadata.Component.PackageURL; !strings.HasPrefix(got, "pkg:oci/app@sha256") || !strings.Contains(got, "repository_url=r.example") {
				t.Errorf("the image is %s", got)
			}
			if bom.Metadata.Timestamp != "2026-03-04T05:06:07Z" {
				t.Errorf("timestamp %s is not that of the scan", bom.Metadata.Timestamp)
			}
			if want := len(r.GetPackages()); r.GetFacts().GetDistroId() != "" && len(*bom.Components) != want+1 {
				t.Errorf("%d components, want %d and the operating system", len(*bom.Components), want)
			}
			if (bom.Compositions != nil) != r.GetIncomplete() {
				t.Errorf("compositions %v, incomplete %v", bom.Compositions, r.GetIncomplete())
			}
		})
	}
}

// TestCycloneDXIsDeterministic: nothing but content makes the document, and its
// serial number.
func TestCycloneDXIsDeterministic(t *testing.T) {
	serial := func(r *scannerv1.Report) (string, []byte) {
		t.Helper()
		content, err := sbom.CycloneDX("a", r, scanned)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct{ SerialNumber string }
		if err := json.Unmarshal(content, &doc); err != nil {
			t.Fatal(err)
		}
		return doc.SerialNumber, content
	}
	first, content := serial(report())
	other := report()
	other.Snapshot = &scannerv1.SnapshotInfo{Digest: "sha256:02"}
	if again, same := serial(other); again != first || !bytes.Equal(content, same) {
		t.Error("another snapshot is another document")
	}
	other.Packages = other.Packages[:1]
	if again, _ := serial(other); again == first {
		t.Error("another content has the same serial number")
	}
}

// cycloneDXSchema is the official schema, which the CycloneDX project's library
// has beside its code.
func cycloneDXSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	c.UseLoader(schemas(filepath.Join(strings.TrimSpace(string(out)), "schema")))
	s, err := c.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// schemas are the files of a folder, by the last part of their address.
type schemas string

func (s schemas) Load(url string) (any, error) {
	content, err := os.ReadFile(filepath.Join(string(s), path.Base(url)))
	if errors.Is(err, fs.ErrNotExist) {
		// The file's name has an x that its address does not.
		content, err = os.ReadFile(filepath.Join(string(s), strings.Replace(path.Base(url), ".schema.json", ".schemax.json", 1)))
	}
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(content))
}
