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

func TestKindOf(t *testing.T) {
	const config, layer = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"
	manifest := func(config string, more string, layers ...string) string {
		var l []string
		for _, mediaType := range layers {
			l = append(l, `{"mediaType":"`+mediaType+`"}`)
		}
		return `{"config":{"mediaType":"` + config + `"},"layers":[` + strings.Join(l, ",") + `]` + more + `}`
	}
	for name, tc := range map[string]struct {
		in   string
		want Kind
	}{
		"image":                        {manifest(config, "", layer), Image},
		"image without layers":         {manifest(config, ""), Image},
		"Docker image":                 {manifest("application/vnd.docker.container.image.v1+json", "", layer), Image},
		"image with a subject":         {manifest(config, `,"subject":{"mediaType":"x"}`, layer), Image},
		"image, called an attestation": {manifest(config, `,"artifactType":"application/vnd.in-toto+json"`, layer), Image},
		"one layer of an image":        {manifest(config, "", "application/vnd.in-toto+json", layer), Image},
		"BuildKit":                     {manifest(config, "", "application/vnd.in-toto+json", "application/vnd.in-toto+json"), Evidence},
		"cosign":                       {manifest(config, "", "application/vnd.dev.cosign.simplesigning.v1+json"), Evidence},
		"bundle":                       {manifest("application/vnd.oci.empty.v1+json", `,"artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json"`, "x"), Evidence},
		"referrer":                     {manifest("application/vnd.oci.empty.v1+json", `,"subject":{"mediaType":"x"}`, "x"), Evidence},
		"chart":                        {manifest("application/vnd.cncf.helm.config.v1+json", "", "x"), Other},
		"index":                        {`{"manifests":[],"artifactType":"application/spdx+json"}`, Image},
		"nothing":                      {`{}`, Image},
	} {
		if got, err := KindOf([]byte(tc.in)); err != nil || got != tc.want {
			t.Errorf("%s: %d, error %v", name, got, err)
		}
	}
	for _, in := range []string{
		`{"config":{"mediaType":"` + config + `"},"config":{"mediaType":"x/y"}}`,
		`{"config":{"mediaType":"x/y"},"Config":{"mediaType":"` + config + `"}}`,
		`{"config":{"mediaType":"x/y","MediaType":"` + config + `"}}`,
		`[`,
	} {
		if _, err := KindOf([]byte(in)); err == nil {
			t.Errorf("%s: no error", in)
		}
	}
}

func TestMayRun(t *testing.T) {
	const empty = `{"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},`
	for name, tc := range map[string]struct {
		in   string
		want bool
	}{
		"image":                       {`{"config":{"mediaType":"application/vnd.oci.image.config.v1+json"},"layers":[]}`, true},
		"layers of any type":          {`{"config":{"mediaType":"application/vnd.oci.image.config.v1+json"},"layers":[{"mediaType":"application/vnd.in-toto+json"}]}`, true},
		"generic configuration":       {`{"config":{"mediaType":"application/octet-stream"},"layers":[{"mediaType":"x/y"}]}`, true},
		"configuration of any type":   {`{"config":{"mediaType":"x/y"},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar"}]}`, true},
		"no configuration":            {`{}`, true},
		"called empty":                {`{"config":{"mediaType":"application/vnd.oci.empty.v1+json"},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar"}]}`, true},
		"empty, with an archive":      {empty + `"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar"}]}`, false},
		"bundle":                      {empty + `"layers":[{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}]}`, false},
		"chart":                       {`{"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json"},"layers":[{"mediaType":"application/vnd.cncf.helm.chart.content.v1.tar+gzip"}]}`, false},
		"layers in different letters": {`{"config":{"mediaType":"x/y"},"layers":[{"mediaType":"Application/vnd.docker.image.rootfs.diff.tar.gzip"}]}`, true},
	} {
		if got, err := MayRun([]byte(tc.in)); err != nil || got != tc.want {
			t.Errorf("%s: %v, error %v", name, got, err)
		}
	}
	if got, err := MayRun([]byte(`{"layers":[],"Layers":[]}`)); err == nil || !got {
		t.Errorf("a manifest that readers read differently: %v, error %v", got, err)
	}
}
