package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/fleet"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/tests/internal/allinone"
	"github.com/seaworthy-dev/seaworthy/tests/internal/images"
)

// TestE2E_Documents: all formats that are attached to an image in a plain-HTTP registry
// name a manifest by one package URL, claim no TLS, and have the time of the scan or the
// verdict instead of the image's.
func TestE2E_Documents(t *testing.T) {
	began := time.Now().Add(-2 * time.Second)
	a := allinone.Start(t, func(c *fleet.Config) { c.Signer.SBOM.Formats = append(c.Signer.SBOM.Formats, "cyclonedx-json") })
	name := a.Registry() + "/e2e/documents"
	index := images.PushIndex(t, images.Index(t, images.Clean(t, "amd64"), images.Vulnerable(t, "arm64")), name+":1")
	v := a.Verdict(t, index)
	if len(v.GetPlatforms()) != 2 {
		t.Fatalf("%d platforms", len(v.GetPlatforms()))
	}
	client, err := registry.New(registry.Config{Registries: []registry.Host{{Host: a.Registry(), Insecure: true}}}, obs.Discard("test"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	digests := []string{index, v.GetPlatforms()[0].GetDigest(), v.GetPlatforms()[1].GetDigest()}
	var purls []string
	for _, d := range digests {
		purls = append(purls, imageref.PURL(name, d))
	}
	for i, types := range [][]string{
		{attest.PredicateReference, attest.PredicateVSA},
		{attest.PredicateSPDX, attest.PredicateCycloneDX, attest.PredicateCosignVuln, attest.PredicateVulnsV02, attest.PredicateVSA},
		{attest.PredicateSPDX, attest.PredicateCycloneDX, attest.PredicateCosignVuln, attest.PredicateVulnsV02, attest.PredicateVSA},
	} {
		for _, predicateType := range types {
			t.Run(predicateType+" of "+digests[i][:19], func(t *testing.T) {
				predicate := attached(t, client, imageref.Ref{Registry: a.Registry(), Repository: "e2e/documents", Digest: digests[i]}, predicateType)
				for _, s := range texts(predicate) {
					if strings.HasPrefix(s, "pkg:oci/") && !slices.Contains(purls, s) {
						t.Errorf("it names a manifest as %s, others as %v", s, purls)
					}
					if strings.Contains(s, "://"+a.Registry()) && !strings.HasPrefix(s, "oci://") {
						t.Errorf("it says how to reach the registry: %s", s)
					}
				}
				for _, at := range times(t, predicateType, predicate) {
					if at.Before(began) || at.After(time.Now().Add(time.Second)) {
						t.Errorf("its time is %s, the test began at %s", at, began)
					}
				}
			})
		}
	}
}

// attached waits for the attestation of a type; the summary of a verdict follows it.
func attached(t *testing.T, c *registry.Client, image imageref.Ref, predicateType string) any {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		referred, err := attest.Fetch(t.Context(), c, image, attest.Limits{PredicateTypes: []string{predicateType}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range referred {
			st, err := attest.Untrusted(referred[i].Bundle)
			if err != nil {
				t.Fatal(err)
			}
			if st.PredicateType != predicateType {
				continue
			}
			var predicate any
			if err := json.Unmarshal(st.Predicate, &predicate); err != nil {
				t.Fatal(err)
			}
			return predicate
		}
	}
	t.Fatalf("no %s is attached to %s", predicateType, image)
	return nil
}

// texts are all strings of a document, at any depth.
func texts(v any) (out []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, e := range v {
			out = append(out, texts(e)...)
		}
	case map[string]any:
		for _, e := range v {
			out = append(out, texts(e)...)
		}
	}
	return out
}

// timePaths are where the formats say when they were made.
var timePaths = map[string][]string{
	attest.PredicateSPDX:       {"creationInfo.created"},
	attest.PredicateCycloneDX:  {"metadata.timestamp"},
	attest.PredicateCosignVuln: {"metadata.scanStartedOn", "metadata.scanFinishedOn"},
	attest.PredicateVulnsV02:   {"metadata.scanStartedOn", "metadata.scanFinishedOn"},
	attest.PredicateReference:  {"https://seaworthy.dev/index/v1|scanFinishedOn"},
	attest.PredicateVSA:        {"timeVerified"},
}

func times(t *testing.T, predicateType string, predicate any) (out []time.Time) {
	t.Helper()
	for _, path := range timePaths[predicateType] {
		separator := "."
		if strings.Contains(path, "|") {
			separator = "|"
		}
		v := predicate
		for part := range strings.SplitSeq(path, separator) {
			m, _ := v.(map[string]any)
			v = m[part]
		}
		text, _ := v.(string)
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		out = append(out, at)
	}
	return out
}
