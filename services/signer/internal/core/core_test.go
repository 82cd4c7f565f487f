package core

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "write the golden files again")

const (
	imageDigest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	armDigest   = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	indexDigest = "sha256:3333333333333333333333333333333333333333333333333333333333333333"
)

var scan = Scan{
	ID:        "scan-1",
	StartTime: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	EndTime:   time.Date(2026, 3, 1, 13, 0, 1, 500_000_000, time.FixedZone("CET", 3600)),
}

func report() Report {
	return Report{
		ImageDigest: imageDigest,
		Canonical:   []byte(`{"imageDigest":"` + imageDigest + `","findings":[{"id":"CVE-2022-32149","summary":"a <b> & c"}]}`),
		ScannerURI:  "https://seaworthy.dev/scanner", ScannerVersion: "v0.1.0",
		SnapshotDigest: "sha256:4444444444444444444444444444444444444444444444444444444444444444",
		SnapshotTime:   time.Date(2026, 2, 28, 6, 0, 0, 0, time.UTC),
		Findings: []Finding{
			{
				ID: "CVE-2022-32149", Aliases: []string{"CVE-2022-32149", "GHSA-69ch-w2m2-3vjp", "GO-2022-1059"},
				PURL: "pkg:golang/golang.org/x/text@v0.3.7", PackageName: "golang.org/x/text", PackageVersion: "v0.3.7",
				Severity: "HIGH", CVSSScore: 7.5, CVSSVector: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H",
				FixedVersions: []string{"0.3.8"}, Location: "app/server",
			},
			{ID: "GO-2099-1", PURL: "pkg:golang/example.com/x@v1.0.0", Severity: "UNKNOWN"},
		},
	}
}

func spdx() []byte {
	return []byte(`{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","dataLicense":"CC0-1.0","name":"app",` +
		`"documentNamespace":"https://seaworthy.dev/spdx/1","creationInfo":{"created":"2026-03-01T12:00:00Z","creators":["Tool: seaworthy"]},` +
		`"packages":[{"SPDXID":"SPDXRef-image","name":"app","checksums":[{"algorithm":"SHA256","checksumValue":"` +
		strings.TrimPrefix(imageDigest, "sha256:") + `"}]}],` +
		`"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-image"}]}`)
}

func verdict() Verdict {
	allow := []Policy{{Name: "baseline", Digest: "sha256:" + strings.Repeat("a", 64)}}
	return Verdict{
		Digest: "sha256:" + strings.Repeat("9", 64), ImageDigest: indexDigest, Outcome: Fail,
		EvaluateTime: time.Date(2026, 3, 1, 12, 0, 2, 0, time.UTC),
		Platforms: []PlatformVerdict{
			{Digest: imageDigest, Outcome: Pass, Policies: allow, Inputs: []string{"sha256:" + strings.Repeat("c", 64), "sha256:" + strings.Repeat("b", 64)}},
			{Digest: armDigest, Outcome: Fail, Policies: append(allow, Policy{Name: "arm only", Digest: "sha256:" + strings.Repeat("d", 64)}), Inputs: []string{"sha256:" + strings.Repeat("e", 64)}},
		},
	}
}

func golden(t *testing.T, name string, got json.RawMessage) {
	t.Helper()
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, got, "", "  "); err != nil {
		t.Fatal(err)
	}
	pretty.WriteByte('\n')
	path := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(path, pretty.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), pretty.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestEvidence_Golden(t *testing.T) {
	got, err := Evidence(scan, report(), sbom(SPDXJSON, spdx()))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 {
		t.Fatalf("%d predicates, want 3", len(got))
	}
	for i, want := range []struct{ predicateType, key, file string }{
		{PredicateSPDX, Digest(spdx()), ""},
		{PredicateVulnsV02, Digest(report().Canonical), "vulns-v0.2"},
		{PredicateCosignVuln, Digest(report().Canonical), "cosign-vuln-v1"},
	} {
		if got[i].Type != want.predicateType || got[i].ContentKey != want.key {
			t.Errorf("predicate %d = %s %s", i, got[i].Type, got[i].ContentKey)
		}
		if want.file != "" {
			golden(t, want.file, got[i].JSON)
		}
	}
	if !bytes.Equal(content(t, got[0]), spdx()) {
		t.Error("the SPDX document was changed")
	}
	if !bytes.Contains(got[2].JSON, report().Canonical) {
		t.Error("the cosign predicate does not hold the report byte for byte")
	}
}

func TestEvidence_BothBillsOfMaterials(t *testing.T) {
	got, err := Evidence(scan, report(), sbom(CycloneDXJSON, cyclonedx()), sbom(SPDXJSON, spdx()))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 || got[0].Type != PredicateCycloneDX || got[1].Type != PredicateSPDX {
		t.Fatalf("predicates = %+v", got)
	}
	if !bytes.Equal(content(t, got[0]), cyclonedx()) || got[0].ContentKey != Digest(cyclonedx()) || !got[0].Time.Equal(scan.EndTime) {
		t.Error("the CycloneDX document was changed, or is of another time")
	}
}

func TestEvidence_SameInputsSameBytes(t *testing.T) {
	first, err := Evidence(scan, report(), sbom(SPDXJSON, spdx()))
	if err != nil {
		t.Fatal(err)
	}
	again, err := Evidence(scan, report(), sbom(SPDXJSON, spdx()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, again, cmpopts.IgnoreFields(Predicate{}, "Document")); diff != "" {
		t.Error(diff)
	}
}

func TestEvidence_NoFindingsIsAnEmptyList(t *testing.T) {
	r := report()
	r.Findings = nil
	got, err := Evidence(scan, r, sbom(SPDXJSON, spdx()))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(got[1].JSON, []byte(`"result":[]`)) {
		t.Errorf("vulns v0.2 = %s", got[1].JSON)
	}
}

func TestEvidence_NeverClaimsCleanWithoutKnowing(t *testing.T) {
	incomplete, noAdvisories := report(), report()
	incomplete.Incomplete = true
	noAdvisories.SnapshotTime = time.Time{}
	for name, r := range map[string]Report{"incomplete": incomplete, "no advisories": noAdvisories} {
		got, err := Evidence(scan, r, sbom(SPDXJSON, spdx()))
		if err != nil {
			t.Fatal(err)
		}
		var types []string
		for _, p := range got {
			types = append(types, p.Type)
		}
		if diff := cmp.Diff([]string{PredicateSPDX, PredicateCosignVuln}, types); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestEvidence_Refuses(t *testing.T) {
	noTime := scan
	noTime.EndTime = time.Time{}
	if _, err := Evidence(noTime, report(), sbom(SPDXJSON, spdx())); err == nil {
		t.Error("a scan without an end was accepted")
	}
	other := report()
	other.ImageDigest = armDigest
	if _, err := Evidence(scan, other, sbom(SPDXJSON, spdx())); err == nil {
		t.Error("the document of another image was accepted")
	}
	broken := report()
	broken.Canonical = []byte(`{"a":`)
	if _, err := Evidence(scan, broken, sbom(SPDXJSON, spdx())); err == nil {
		t.Error("a report that is not JSON was accepted")
	}
	if _, err := NewSBOMWriter("syft-json", imageDigest, io.Discard); err == nil {
		t.Error("a document of an unknown format was accepted")
	}
	if err := check(CycloneDXJSON, spdx(), imageDigest); !errors.Is(err, ErrCycloneDX) {
		t.Errorf("an SPDX document as CycloneDX: %v", err)
	}
}

func TestVSAs_Golden(t *testing.T) {
	got, err := VSAs(verdict(), "registry.example:5000/team/app", "https://seaworthy.dev/verifier")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct{ digest, file string }{
		{indexDigest, "vsa-index-failed"}, {imageDigest, "vsa-platform-passed"}, {armDigest, "vsa-platform-failed"},
	} {
		if i >= len(got) {
			t.Fatalf("%d summaries, want 3", len(got))
		}
		if got[i].Digest != want.digest || got[i].Type != PredicateVSA || got[i].ContentKey != verdict().Digest {
			t.Errorf("summary %d = %s %s %s", i, got[i].Digest, got[i].Type, got[i].ContentKey)
		}
		golden(t, want.file, got[i].JSON)
	}
}

func TestVSAs_SingleImageHasOne(t *testing.T) {
	v := verdict()
	v.ImageDigest, v.Platforms = imageDigest, v.Platforms[:1]
	got, err := VSAs(v, "registry.example/app", "https://seaworthy.dev/verifier")
	if err != nil || len(got) != 1 || got[0].Digest != imageDigest {
		t.Errorf("VSAs() = %v, %v", got, err)
	}
}

func TestVSAs_UnknownPlatformIsNotSigned(t *testing.T) {
	v := verdict()
	v.Platforms[0].Outcome = Unknown
	got, err := VSAs(v, "registry.example/app", "https://seaworthy.dev/verifier")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range got {
		if s.Digest == imageDigest {
			t.Error("a platform without a sound verdict got a summary")
		}
	}
}

func TestVSAs_Refuses(t *testing.T) {
	unknown, none, noPolicy := verdict(), verdict(), verdict()
	unknown.Outcome = Unknown
	none.Platforms = nil
	noPolicy.Platforms[0].Policies = nil
	for name, v := range map[string]Verdict{"unknown": unknown, "no platforms": none, "no policy": noPolicy} {
		if got, err := VSAs(v, "registry.example/app", "https://seaworthy.dev/verifier"); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestCheckSPDX(t *testing.T) {
	replace := func(old, by string) []byte { return bytes.Replace(spdx(), []byte(old), []byte(by), 1) }
	hex := strings.TrimPrefix(imageDigest, "sha256:")
	checksum := `"checksums":[{"algorithm":"SHA256","checksumValue":"` + hex + `"}]`
	tests := []struct {
		name string
		doc  []byte
		ok   bool
	}{
		{"checksum", spdx(), true},
		{"documentDescribes", replace(`"relationships":[`, `"documentDescribes":["SPDXRef-image"],"other":[`), true},
		{"version", replace(checksum, `"versionInfo":"`+imageDigest+`"`), true},
		{"purl", replace(checksum, `"externalRefs":[{"referenceLocator":"pkg:oci/app@sha256%3A`+hex+`?repository_url=r/app"}]`), true},
		{"plain purl", replace(checksum, `"externalRefs":[{"referenceLocator":"pkg:oci/app@`+imageDigest+`"}]`), true},
		{"digest in the qualifiers only", replace(checksum, `"externalRefs":[{"referenceLocator":"pkg:oci/app@1?x=@`+imageDigest+`"}]`), false},
		{"other checksum", replace(hex, strings.Repeat("5", 64)), false},
		{"other algorithm", replace("SHA256", "SHA1"), false},
		{"not described", replace("DESCRIBES", "CONTAINS"), false},
		{"described by another", replace(`"spdxElementId":"SPDXRef-DOCUMENT"`, `"spdxElementId":"SPDXRef-x"`), false},
		{"old version", replace("SPDX-2.3", "SPDX-2.2"), false},
		{"no id", replace("SPDXRef-DOCUMENT", "SPDXRef-d"), false},
		{"no name", replace(`"name":"app",`, ""), false},
		{"no time", replace(`"created":"2026-03-01T12:00:00Z",`, ""), false},
		{"two documents", append(spdx(), spdx()...), false},
		{"not JSON", []byte("SPDXVersion: SPDX-2.3"), false},
		{"empty", nil, false},
		{"list", []byte("[]"), false},
		{"null", []byte("null"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := check(SPDXJSON, tt.doc, imageDigest)
			if (err == nil) != tt.ok || (err != nil && !errors.Is(err, ErrSPDX)) {
				t.Errorf("check() = %v", err)
			}
		})
	}
}

func TestSameContent(t *testing.T) {
	j := func(s string) json.RawMessage { return json.RawMessage(s) }
	tests := []struct {
		name, predicateType string
		a, b                json.RawMessage
		want                bool
	}{
		{"equal", PredicateVSA, j(`{"a":1,"b":2}`), j(`{"b":2, "a":1}`), true},
		{"other time of scan", PredicateVulnsV02, j(`{"scanner":{},"metadata":{"x":1}}`), j(`{"scanner":{},"metadata":{"x":2}}`), true},
		{"other scan", PredicateCosignVuln, j(`{"scanner":{},"invocation":{"event_id":"1"}}`), j(`{"scanner":{},"invocation":{"event_id":"2"}}`), true},
		{"metadata counts elsewhere", PredicateVSA, j(`{"metadata":1}`), j(`{"metadata":2}`), false},
		{"other result", PredicateVulnsV02, j(`{"scanner":{"result":[]}}`), j(`{"scanner":{"result":[1]}}`), false},
		{"broken", PredicateVSA, j(`{`), j(`{`), false},
		{"null", PredicateVSA, j(`null`), j(`null`), false},
	}
	for _, tt := range tests {
		if got := SameContent(tt.predicateType, tt.a, tt.b); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func FuzzCheckSPDX(f *testing.F) {
	f.Add(spdx(), imageDigest)
	f.Add([]byte(`{"spdxVersion":"SPDX-2.3"}`), "sha256:")
	f.Add([]byte(`{"packages":[{"externalRefs":[{"referenceLocator":"pkg:oci/"}]}]}`), "")
	f.Fuzz(func(t *testing.T, doc []byte, digest string) {
		if err := check(SPDXJSON, doc, digest); err == nil && !json.Valid(doc) {
			t.Error("accepted what is not JSON")
		} else if err != nil && !errors.Is(err, ErrSPDX) {
			t.Errorf("error of another kind: %v", err)
		}
	})
}
