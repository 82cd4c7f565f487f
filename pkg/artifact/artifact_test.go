package artifact

import (
	"fmt"
	"strings"
	"testing"
)

var testSum = strings.Repeat("5e", 32)

func TestIsEvidence(t *testing.T) {
	image := "application/vnd.oci.image.manifest.v1+json"
	for _, tc := range []struct {
		mediaType, artifactType, tag string
		want                         bool
	}{
		{image, "", "v1", false},
		{image, "", "", false},
		{image, "application/vnd.oci.image.config.v1+json", "latest", false},
		{image, "application/vnd.cncf.helm.config.v1+json", "1.0.0", false},
		{image, "application/vnd.dev.sigstore.bundle.v0.3+json", "", true},
		{image, "application/vnd.dev.sigstore.bundle+json;version=0.2", "", true},
		{image, "application/vnd.dev.cosign.artifact.sig.v1+json", "", true},
		{image, "application/vnd.cncf.notary.signature", "", true},
		{image, "application/spdx+json", "", true},
		{image, "application/vnd.cyclonedx+json", "", true},
		{image, "application/sarif+json", "", true},
		{"application/vnd.in-toto+json", "", "", true},
		{"application/vnd.oci.image.index.v1+json", "", "sha256-" + testSum, true},
		{image, "", "sha256-" + testSum + ".sig", true},
		{image, "", "sha256-" + testSum + ".att", true},
		{image, "", "sha256-" + testSum + ".sbom", true},
		{image, "", "sha256-notadigest", false},
		{image, "", "sha256-" + testSum + "00", false},
	} {
		if got := IsEvidence(tc.mediaType, tc.artifactType, tc.tag); got != tc.want {
			t.Errorf("IsEvidence(%q, %q, %q) = %v", tc.mediaType, tc.artifactType, tc.tag, got)
		}
	}
}

func Example() {
	fmt.Println(IsEvidence("application/vnd.oci.image.manifest.v1+json", "application/vnd.dev.sigstore.bundle.v0.3+json", ""))
	fmt.Println(IsEvidence("application/vnd.oci.image.manifest.v1+json", "", "v1.2.3"))
	// Output:
	// true
	// false
}
