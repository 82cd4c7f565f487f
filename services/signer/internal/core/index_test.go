package core

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	reference "github.com/in-toto/attestation/go/predicates/reference/v0"
	"google.golang.org/protobuf/encoding/protojson"
)

func children() []Child {
	arm := report()
	arm.ImageDigest, arm.Findings, arm.Incomplete = armDigest, nil, true
	return []Child{
		{Report: report(), Platform: "linux/amd64", MediaType: "application/vnd.oci.image.manifest.v1+json"},
		{Report: arm, Platform: "linux/arm/v7"},
	}
}

func TestIndexReference_Golden(t *testing.T) {
	got, err := IndexReference(scan, "registry.example:5000", "team/app", children())
	if err != nil {
		t.Fatal(err)
	}
	if got.Type != PredicateReference || !got.Time.Equal(scan.EndTime) {
		t.Errorf("predicate = %s at %s", got.Type, got.Time)
	}
	golden(t, "reference-index", got.JSON)
	// Another scan with the same outcome says the same.
	again := scan
	again.ID, again.EndTime = "scan-2", scan.EndTime.AddDate(0, 0, 1)
	second, err := IndexReference(again, "registry.example:5000", "team/app", children())
	if err != nil || second.ContentKey != got.ContentKey || !SameContent(PredicateReference, got.JSON, second.JSON) {
		t.Errorf("another scan: %s, %v, want %s", second.ContentKey, err, got.ContentKey)
	}
	less, err := IndexReference(scan, "registry.example:5000", "team/app", children()[:1])
	if err != nil || less.ContentKey == got.ContentKey || SameContent(PredicateReference, got.JSON, less.JSON) {
		t.Errorf("fewer manifests say the same, %v", err)
	}
}

// TestFormats_Reference reads our predicate with in-toto's own types; what they do
// not know is the extension, named by a URI.
func TestFormats_Reference(t *testing.T) {
	got, err := IndexReference(scan, "registry.example:5000", "team/app", children())
	if err != nil {
		t.Fatal(err)
	}
	var r reference.Reference
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(got.JSON, &r); err != nil {
		t.Fatal(err)
	}
	if r.GetAttester().GetId() == "" {
		t.Error("no attester")
	}
	if len(r.GetReferences()) != 2 {
		t.Fatalf("in-toto reads %d references, want 2", len(r.GetReferences()))
	}
	for _, ref := range r.GetReferences() {
		if ref.GetMediaType() == "" || ref.GetDownloadLocation() == "" || ref.GetDigest()["sha256"] == "" {
			t.Errorf("reference without a mandatory field: %v", ref)
		}
	}
}

func TestIndexReference_Refuses(t *testing.T) {
	if _, err := IndexReference(scan, "r", "a", nil); err == nil {
		t.Error("an index without manifests was accepted")
	}
	if _, err := IndexReference(Scan{ID: "x"}, "r", "a", children()); err == nil {
		t.Error("a scan without an end was accepted")
	}
}

func TestManifestsOf(t *testing.T) {
	got, err := ManifestsOf([]byte(`{"manifests":[{"mediaType":"m","digest":"` + armDigest + `"}]}`))
	if diff := cmp.Diff(map[string]string{armDigest: "m"}, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if _, err := ManifestsOf([]byte(`{"manifests":{}}`)); err == nil {
		t.Error("what is no index was read")
	}
	if got := PlatformName("linux", "arm", ""); got != "linux/arm" {
		t.Errorf("PlatformName() = %q", got)
	}
}
