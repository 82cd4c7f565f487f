package core_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

const (
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	bundle      = "application/vnd.dev.sigstore.bundle.v0.3+json"
	evidence    = "evidence"
	ociConfig   = "application/vnd.oci.image.config.v1+json"
)

func TestParseManifest(t *testing.T) {
	platform := func(os, arch string) string {
		return `{"mediaType":"` + ociManifest + `","digest":"d-` + arch + `","size":1,"platform":{"os":"` + os + `","architecture":"` + arch + `"}}`
	}
	many := strings.TrimSuffix(strings.Repeat(platform("linux", "amd64")+",", 65), ",")
	for _, c := range []struct {
		name, mediaType, content string
		// want is a reason, or the digests of layers or platforms.
		want string
	}{
		{"image", ociManifest, `{"config":{"mediaType":"` + ociConfig + `"},"layers":[{"digest":"a"},{"digest":"b"}]}`, "a b"},
		{"image without layers", ociManifest, `{"config":{"mediaType":"` + ociConfig + `"}}`, ""},
		{"media type of the content", "", `{"mediaType":"` + ociManifest + `","config":{"mediaType":"` + ociConfig + `"},"layers":[{"digest":"a"}]}`, "a"},
		{"index", ociIndex, `{"manifests":[` + platform("linux", "amd64") + `,` + platform("linux", "arm64") + `]}`, "d-amd64 d-arm64"},
		{"attestations beside", ociIndex, `{"manifests":[` + platform("linux", "amd64") + `,` + platform("unknown", "unknown") + `]}`, "d-amd64"},
		{
			"index that names config types", ociIndex,
			`{"manifests":[{"mediaType":"` + ociManifest + `","artifactType":"` + ociConfig + `","digest":"a"},{"mediaType":"` + ociManifest + `","artifactType":"x/y","digest":"b"}]}`, "a",
		},
		{
			"images that call themselves attestations", ociIndex,
			`{"manifests":[{"mediaType":"` + ociManifest + `","digest":"a","artifactType":"` + bundle + `","platform":{"os":"linux","architecture":"amd64"}},` +
				`{"mediaType":"` + ociManifest + `","digest":"b","annotations":{"vnd.docker.reference.type":"attestation-manifest"},"platform":{"os":"linux","architecture":"arm64"}}]}`, "a b",
		},
		{"index beside an image", ociIndex, `{"manifests":[` + platform("linux", "amd64") + `,{"mediaType":"` + ociIndex + `","digest":"x"}]}`, core.ReasonNotAnImage},
		{"docker's list beside an image", ociIndex, `{"manifests":[` + platform("linux", "amd64") + `,{"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","digest":"x"}]}`, core.ReasonNotAnImage},
		{"index of indexes", ociIndex, `{"manifests":[{"mediaType":"` + ociIndex + `","digest":"x"}]}`, core.ReasonNotAnImage},
		{"only attestations", ociIndex, `{"manifests":[` + platform("unknown", "unknown") + `]}`, core.ReasonNotAnImage},
		{"empty index", ociIndex, `{"manifests":[]}`, core.ReasonNotAnImage},
		{"too many platforms", ociIndex, `{"manifests":[` + many + `]}`, core.ReasonLimitExceeded},
		{"artifact", ociManifest, `{"artifactType":"a/b","config":{"mediaType":"application/vnd.oci.empty.v1+json"}}`, core.ReasonNotAnImage},
		{"image with a subject", ociManifest, `{"subject":{"digest":"x"},"config":{"mediaType":"` + ociConfig + `"},"layers":[{"digest":"a"}]}`, "a"},
		{
			"image that calls itself evidence", ociManifest,
			`{"artifactType":"` + bundle + `","config":{"mediaType":"` + ociConfig + `"},"layers":[{"digest":"a","mediaType":"application/vnd.oci.image.layer.v1.tar+gzip"}]}`, "a",
		},
		{"index with a subject", ociIndex, `{"subject":{"digest":"x"},"manifests":[` + platform("linux", "amd64") + `]}`, "d-amd64"},
		{"referrer", ociManifest, `{"subject":{"digest":"x"},"config":{"mediaType":"application/vnd.oci.empty.v1+json"}}`, evidence},
		{"bundle", ociManifest, `{"artifactType":"` + bundle + `","config":{"mediaType":"application/vnd.oci.empty.v1+json"}}`, evidence},
		{"bundle as config", ociManifest, `{"config":{"mediaType":"application/vnd.cyclonedx+json"}}`, evidence},
		{"old cosign signature", ociManifest, `{"config":{"mediaType":"` + ociConfig + `"},"layers":[{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":"a"}]}`, evidence},
		{"fallback index", ociIndex, `{"manifests":[{"mediaType":"` + ociManifest + `","artifactType":"` + bundle + `","digest":"a"}]}`, evidence},
		{"chart", ociManifest, `{"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json"}}`, core.ReasonNotAnImage},
		{"no config", ociManifest, `{}`, core.ReasonNotAnImage},
		{"two types", ociManifest, `{"mediaType":"` + ociIndex + `","config":{"mediaType":"` + ociConfig + `"}}`, core.ReasonNotAnImage},
		{"manifest and index", ociManifest, `{"config":{"mediaType":"` + ociConfig + `"},"manifests":[` + platform("linux", "amd64") + `]}`, core.ReasonNotAnImage},
		{"index and manifest", ociIndex, `{"layers":[{}],"manifests":[` + platform("linux", "amd64") + `]}`, core.ReasonNotAnImage},
		{"manifests in capitals", ociIndex, `{"manifests":[` + platform("linux", "amd64") + `],"Manifests":[` + platform("linux", "arm64") + `]}`, core.ReasonNotAnImage},
		{"manifests twice", ociIndex, `{"manifests":[` + platform("linux", "amd64") + `],"manifests":[` + platform("linux", "arm64") + `]}`, core.ReasonNotAnImage},
		{"manifests with a long s", ociIndex, `{"manifests":[` + platform("linux", "amd64") + `],"manifeſts":[` + platform("linux", "arm64") + `]}`, core.ReasonNotAnImage},
		{"platform in capitals", ociIndex, strings.Replace(`{"manifests":[`+platform("linux", "amd64")+`,`+platform("linux", "arm64")+`]}`, `"platform"`, `"PLATFORM":{"os":"unknown","architecture":"unknown"},"platform"`, 1), core.ReasonNotAnImage},
		{"layers twice", ociManifest, `{"config":{"mediaType":"` + ociConfig + `"},"layers":[{"digest":"a"}],"layers":[]}`, core.ReasonNotAnImage},
		{"BuildKit attestation", ociManifest, `{"config":{"mediaType":"` + ociConfig + `"},"layers":[{"mediaType":"application/vnd.in-toto+json","digest":"a"}]}`, evidence},
		{"no JSON", ociManifest, `{`, core.ReasonNotAnImage},
		{"schema 1", "application/vnd.docker.distribution.manifest.v1+prettyjws", `{}`, core.ReasonNotAnImage},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := core.ParseManifest(c.mediaType, []byte(c.content))
			got := ""
			if f := core.AsFault(err); f != nil {
				got = f.Reason
				if f.Evidence {
					got = evidence
				}
			} else if err != nil {
				t.Fatal(err)
			} else {
				var ds []string
				for _, d := range append(m.Layers, m.Platforms...) {
					ds = append(ds, d.Digest)
				}
				got = strings.Join(ds, " ")
			}
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestParseConfig(t *testing.T) {
	facts, platform, env, err := core.ParseConfig([]byte(`{"os":"linux","architecture":"arm64","variant":"v8","created":"2024-01-02T04:04:05+01:00",
		"config":{"User":"app","Entrypoint":["/app"],"Cmd":["-v"],"Env":["PATH=/bin","TOKEN=secret","EMPTY","PATH=again"],
		"ExposedPorts":{"9090/tcp":{},"8080/tcp":{}},"Labels":{"a":"b"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := core.Facts{
		User: "app", Entrypoint: []string{"/app"}, Cmd: []string{"-v"}, EnvNames: []string{"EMPTY", "PATH", "TOKEN"},
		ExposedPorts: []string{"8080/tcp", "9090/tcp"}, Labels: map[string]string{"a": "b"}, Created: time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC),
		EnvSHA256: map[string]string{
			"EMPTY": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
			"PATH":  "b4c9e14061c2fd453b36700e3b0da008db2189c711ac629f0f583089164e267d",
			"TOKEN": "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b",
		},
	}
	if diff := cmp.Diff(want, facts); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
	if platform != (core.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}) {
		t.Errorf("platform %v", platform)
	}
	if env["TOKEN"] != "secret" || env["PATH"] != "again" || len(env) != 3 {
		t.Errorf("environment %v", env)
	}
	if strings.Contains(fmt.Sprint(facts), "secret") {
		t.Error("the value of a variable is kept")
	}
	if _, p, _, err := core.ParseConfig([]byte(`{"os":"li\u0000nux","architecture":"` + strings.Repeat("é", 100) + `"}`)); err != nil || p.OS != "linux" || len(p.Architecture) > 120 {
		t.Errorf("hostile platform: %+v, %v", p, err)
	}
	if _, _, _, err := core.ParseConfig([]byte("{")); core.AsFault(err) == nil {
		t.Errorf("malformed config: %v", err)
	}
}

func TestParseManifest_Claims(t *testing.T) {
	entry := func(digest, more string) string {
		return `{"mediaType":"` + ociManifest + `","digest":"` + digest + `"` + more + `}`
	}
	m, err := core.ParseManifest(ociIndex, []byte(`{"manifests":[`+strings.Join([]string{
		entry("image", `,"platform":{"os":"linux","architecture":"amd64"}`),
		entry("unknown", `,"platform":{"os":"unknown","architecture":"unknown"}`),
		entry("marked", `,"platform":{"os":"unknown","architecture":"unknown"},"annotations":{"vnd.docker.reference.type":"attestation-manifest"}`),
		entry("artifact", `,"artifactType":"x/y"`),
		`{"mediaType":"application/x-other","digest":"other"}`,
	}, ",")+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	var claims []string
	for _, d := range m.Claims {
		claims = append(claims, d.Digest)
	}
	if diff := cmp.Diff([]string{"unknown", "marked", "artifact"}, claims); diff != "" || len(m.Platforms) != 1 {
		t.Errorf("platforms %v, claims (-want +got):\n%s", m.Platforms, diff)
	}
}

func TestParseConfig_Strict(t *testing.T) {
	for _, in := range []string{
		`{"os":"linux","config":{"User":"root"},"config":{"User":"app"}}`,
		`{"os":"linux","config":{"User":"root","USER":"app"}}`,
		`{"os":"linux","config":{"user":"app"}}`,
		`{"os":"linux","rootfs":{"diff_ids":[],"DIFF_IDS":[]}}`,
		`{"os":"linux","history":[{"created":1,"created":2}]}`,
	} {
		if _, _, _, err := core.ParseConfig([]byte(in)); core.AsFault(err) == nil || !strings.Contains(err.Error(), "the image's configuration is invalid JSON: the name") {
			t.Errorf("%s: error %v", in, err)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add(ociManifest, []byte(`{"config":{"mediaType":"`+ociConfig+`"},"layers":[{"digest":"a","platform":{}}]}`))
	f.Add(ociIndex, []byte(`{"manifests":[{"mediaType":"`+ociManifest+`","digest":"a"}]}`))
	f.Fuzz(func(t *testing.T, mediaType string, content []byte) {
		m, err := core.ParseManifest(mediaType, content)
		if (m == nil) == (err == nil) || err != nil && core.AsFault(err) == nil {
			t.Fatalf("%v, %v", m, err)
		}
		if _, _, _, err := core.ParseConfig(content); err != nil && core.AsFault(err) == nil {
			t.Fatal(err)
		}
	})
}
