package sbom_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/sbom"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/wire"
)

type format struct {
	name  string
	write func(string, *scannerv1.Report, time.Time) ([]byte, error)
}

var formats = []format{{"SPDX", sbom.SPDX}, {"CycloneDX", sbom.CycloneDX}}

// TestReadsWhatItWrites: everything that findings and their places depend on
// survives both formats.
func TestReadsWhatItWrites(t *testing.T) {
	r := report()
	r.Incomplete, r.Problems = true, []string{"app.jar: larger than 5 bytes"}
	r.Packages = append(r.Packages,
		&scannerv1.Package{
			Purl: "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12&upstream=glibc", Name: "libc6", Version: "2.36-9", Ecosystem: "Debian:12",
			SourceName: "glibc", SourceVersion: "2.36-9+b1", Location: "var/lib/dpkg/status", LayerDigest: "sha256:01",
		},
		&scannerv1.Package{Purl: "pkg:npm/jsonstream@1", Name: "JSONStream", Version: "1", Ecosystem: "npm", Location: "j/package.json"},
		&scannerv1.Package{Purl: "pkg:deb/other/x@1", Name: "x", Version: "1"},
	)
	want := wire.Domain(r)
	want.Sort()
	for _, f := range formats {
		t.Run(f.name, func(t *testing.T) {
			content, err := f.write("r.example/team/app", r, scanned)
			if err != nil {
				t.Fatal(err)
			}
			doc, err := sbom.Read(content, 100)
			if err != nil {
				t.Fatal(err)
			}
			got := doc.Report
			if doc.Name != "r.example/team/app" || got.ImageDigest != want.ImageDigest || got.Platform != want.Platform ||
				got.Facts.Distro != want.Facts.Distro || !got.Facts.Created.Equal(want.Facts.Created) || !slices.Equal(got.Facts.Layers, want.Facts.Layers) {
				t.Errorf("image %q %+v", doc.Name, got)
			}
			if diff := cmp.Diff(withoutLicenses(want.Packages), withoutLicenses(got.Packages)); diff != "" {
				t.Errorf("packages (-want +got):\n%s", diff)
			}
			if !slices.Equal(got.Problems, want.Problems) || !slices.Equal(got.InventoryProblems, want.Problems) {
				t.Errorf("problems %q", got.Problems)
			}
			if i := slices.IndexFunc(got.Packages, func(p core.Package) bool { return p.Location == "x/package.json" }); !slices.Equal(got.Packages[i].Licenses, []string{"custom licence"}) {
				t.Errorf("licences %q", got.Packages[i].Licenses)
			}
		})
	}
}

func withoutLicenses(ps []core.Package) []core.Package {
	out := slices.Clone(ps)
	for i := range out {
		out[i].Licenses = nil
	}
	return out
}

// TestReadsOthers: documents of other tools, which tell ecosystem, distribution and
// source package by the package URL alone.
func TestReadsOthers(t *testing.T) {
	purls := []string{
		"pkg:deb/debian/libc6@2.36-9?arch=amd64&upstream=glibc&distro=debian-12",
		"pkg:deb/debian/bsdutils@1:2.38.1-5?arch=amd64&upstream=util-linux%402.38.1-5&distro=debian-12",
		"pkg:apk/alpine/libcrypto3@3.1.0-r4?arch=x86_64&upstream=openssl&distro=alpine-3.18.0",
		"pkg:golang/golang.org/x/net@v0.7.0", "pkg:golang/stdlib@1.22rc1", "pkg:golang/example.com/app@%28devel%29",
		"pkg:npm/%40babel/core@7.0.0", "pkg:pypi/jinja2@2.4", "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1",
	}
	want := []string{
		"Debian:12 glibc 2.36-9", "Debian:12 util-linux 2.38.1-5", "Debian:12? alpine",
		"Go golang.org/x/net 0.7.0", "Go stdlib 1.22.0-rc.1", "Go example.com/app ",
		"npm @babel/core 7.0.0", "PyPI jinja2 2.4", "Maven org.apache.logging.log4j:log4j-core 2.14.1",
	}
	cdx := map[string]any{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": []any{
		map[string]any{"type": "operating-system", "name": "debian", "version": "12"},
		map[string]any{"type": "file", "name": "/etc/passwd"},
	}}
	spdx := map[string]any{"spdxVersion": "SPDX-2.3", "packages": []any{map[string]any{"SPDXID": "SPDXRef-Root", "name": "app"}},
		"relationships": []any{map[string]any{"spdxElementId": "SPDXRef-DOCUMENT", "relatedSpdxElement": "SPDXRef-Root", "relationshipType": "DESCRIBES"}}}
	for _, p := range purls {
		cdx["components"] = append(cdx["components"].([]any), map[string]any{"type": "library", "name": "n", "version": "v", "purl": p})
		spdx["packages"] = append(spdx["packages"].([]any), map[string]any{"name": "n", "versionInfo": "v",
			"externalRefs": []any{map[string]any{"referenceType": "purl", "referenceLocator": p}}})
	}
	for name, d := range map[string]any{"CycloneDX": cdx, "SPDX": spdx} {
		t.Run(name, func(t *testing.T) {
			content, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			doc, err := sbom.Read(content, 100)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range doc.Report.Packages {
				got = append(got, fmt.Sprintf("%s %s %s", p.Ecosystem, p.AdvisoryName(), p.AdvisoryVersion()))
			}
			for _, w := range want {
				if !strings.Contains(w, "?") && !slices.Contains(got, w) {
					t.Errorf("no %q in %q", w, got)
				}
			}
			// An Alpine package in a Debian image: nobody knows what to think of it.
			if len(doc.Report.Problems) != 1 || !strings.Contains(doc.Report.Problems[0], `"apk"`) {
				t.Errorf("problems %q", doc.Report.Problems)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for name, c := range map[string]struct {
		content string
		want    error
	}{
		"nothing":         {"", sbom.ErrUnknownFormat},
		"something else":  {`{"version":1}`, sbom.ErrUnknownFormat},
		"another version": {`{"spdxVersion":"SPDX-3.0"}`, sbom.ErrUnknownFormat},
		"too many":        {`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{},{},{}]}`, sbom.ErrTooLarge},
		"too long":        {`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"name":"` + long + `"}]}`, sbom.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := sbom.Read([]byte(c.content), 2); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// TestReadLicenses: a short reference may stand for a long text, so few of them are replaced.
func TestReadLicenses(t *testing.T) {
	text := strings.Repeat("t", 4000)
	spdx := func(n int) string {
		return `{"spdxVersion":"SPDX-2.3","hasExtractedLicensingInfos":[{"licenseId":"L","extractedText":"` + text + `"}],"packages":[{"name":"n","licenseDeclared":"` +
			strings.TrimSuffix(strings.Repeat("L AND ", n), " AND ") + `","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:npm/a@1"}]}]}`
	}
	cdx := `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"name":"n","purl":"pkg:npm/a@1","licenses":[` +
		strings.TrimSuffix(strings.Repeat(`{"expression":"MIT"},`, 100), ",") + `]}]}`
	for name, c := range map[string]struct {
		content       string
		number, bytes int
	}{
		"as many as the scanner keeps": {spdx(20), 20, 20 * 4000}, "more": {spdx(21), 1, 6*21 - 5}, "many": {spdx(600), 1, 6*600 - 5}, "CycloneDX": {cdx, 20, 60},
	} {
		doc, err := sbom.Read([]byte(c.content), 10)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := doc.Report.Packages[0].Licenses
		if len(got) != c.number || len(strings.Join(got, "")) != c.bytes {
			t.Errorf("%s: %d licences of %d bytes", name, len(got), len(strings.Join(got, "")))
		}
	}
}

// TestReadStaysIncomplete: what a document does not tell cannot look clean.
func TestReadStaysIncomplete(t *testing.T) {
	for name, content := range map[string]string{
		"says so":        `{"bomFormat":"CycloneDX","specVersion":"1.6","compositions":[{"aggregate":"incomplete"}]}`,
		"no package URL": `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"type":"library","name":"a"}]}`,
		"malformed":      `{"spdxVersion":"SPDX-2.3","packages":[{"name":"a","externalRefs":[{"referenceType":"purl","referenceLocator":"x"}]}]}`,
		"unknown kind":   `{"spdxVersion":"SPDX-2.3","packages":[{"name":"a","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:swift/a/b@1"}]}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			doc, err := sbom.Read([]byte(content), 10)
			if err != nil {
				t.Fatal(err)
			}
			if len(doc.Report.Problems) != 1 || len(doc.Report.InventoryProblems) != 1 {
				t.Errorf("problems %q", doc.Report.Problems)
			}
		})
	}
}

// FuzzRead: no document breaks the reader, and what it read survives being written
// in both formats.
func FuzzRead(f *testing.F) {
	for _, w := range formats {
		content, err := w.write("r.example/team/app", report(), scanned)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Add([]byte(`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"type":"library","name":"n","purl":"pkg:deb/debian/libc6@2?upstream=glibc%403&distro=debian-12","components":[{"purl":"pkg:maven/a/b@1"}]}]}`))
	f.Add([]byte(`{"spdxVersion":"SPDX-2.3","packages":[{"name":"n","licenseDeclared":"MIT AND LicenseRef-1","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:golang/a/b@v1"}]}]}`))
	f.Add([]byte(`{"spdxVersion":"SPDX-2.3","hasExtractedLicensingInfos":[{"licenseId":"LicenseRef-1","extractedText":""}],"packages":[{"name":"n","licenseDeclared":"MIT AND LicenseRef-1","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:npm/a@1"}]}]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		doc, err := sbom.Read(content, 1000)
		if err != nil {
			return
		}
		doc.Report.ImageDigest = "sha256:" + strings.Repeat("0", 64)
		for _, w := range formats {
			again, err := w.write("app", wire.Report(&doc.Report), scanned)
			if err != nil {
				t.Fatal(err)
			}
			second, err := sbom.Read(again, 1000)
			if err != nil {
				t.Fatalf("%s: %v\n%s", w.name, err, again)
			}
			if diff := cmp.Diff(withoutLicenses(doc.Report.Packages), withoutLicenses(second.Report.Packages)); diff != "" {
				t.Fatalf("%s (-first +second):\n%s", w.name, diff)
			}
			if len(second.Report.Problems) != len(doc.Report.Problems) {
				t.Fatalf("%s: problems %q, then %q", w.name, doc.Report.Problems, second.Report.Problems)
			}
		}
	})
}
