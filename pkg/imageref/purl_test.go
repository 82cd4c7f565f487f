package imageref_test

import (
	"strings"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

func TestPURL(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0a", 32)
	for name, tc := range map[string]struct{ name, digest, want string }{
		// The spelling of the specification's own test suite (tests/types/oci-test.json).
		"specification": {"docker.io/library/debian", "sha256:244fd47e07d10", "pkg:oci/debian@sha256:244fd47e07d10?repository_url=docker.io%2Flibrary%2Fdebian"},
		"port":          {"r.example:5000/team/my.app_x", digest, "pkg:oci/my.app_x@" + digest + "?repository_url=r.example:5000%2Fteam%2Fmy.app_x"},
		"IPv6":          {"[::1]:5000/app", digest, "pkg:oci/app@" + digest + "?repository_url=%5B::1%5D:5000%2Fapp"},
		"letter case":   {"R.example/Team/App", "sha256:AB", "pkg:oci/app@sha256:ab?repository_url=r.example%2Fteam%2Fapp"},
		"local file":    {"my image+é", digest, "pkg:oci/my%20image%2B%C3%A9@" + digest},
		"no digest":     {"r.example/app", "", "pkg:oci/app?repository_url=r.example%2Fapp"},
	} {
		t.Run(name, func(t *testing.T) {
			got := imageref.PURL(tc.name, tc.digest)
			if got != tc.want {
				t.Errorf("PURL() = %s, want %s", got, tc.want)
			}
			if strings.Contains(tc.name, "/") && tc.digest != "" && !imageref.SamePURL(got, tc.name, tc.digest) {
				t.Error("it does not name its own manifest")
			}
		})
	}
}

func TestSamePURL(t *testing.T) {
	const name = "r.example:5000/team/app"
	digest := "sha256:" + strings.Repeat("0a", 32)
	for purl, want := range map[string]bool{
		imageref.PURL(name, digest): true,
		// Spellings of earlier releases and of other tools.
		"pkg:oci/app@" + strings.Replace(digest, ":", "%3A", 1) + "?repository_url=r.example%3A5000%2Fteam%2Fapp": true,
		"pkg:oci/app@" + digest + "?arch=amd64&repository_url=r.example:5000/team/app&tag=v1":                     true,
		"pkg:oci/App@" + strings.ToUpper(digest) + "?repository_url=R.example:5000/team/app":                      true,
		"pkg:oci/app@" + digest:                                                                                    false,
		"pkg:oci/app?repository_url=r.example:5000/team/app":                                                       false,
		"pkg:oci/app@" + digest + "?repository_url=r.example/team/app":                                             false,
		"pkg:oci/other@" + digest + "?repository_url=r.example:5000/team/app":                                      false,
		"pkg:oci/team/app@" + digest + "?repository_url=r.example:5000/team/app":                                   false,
		"pkg:oci/app@sha256:" + strings.Repeat("0b", 32) + "?repository_url=r.example:5000/team/app":               false,
		"pkg:oci/app@" + digest + "?repository_url=r.example:5000/team/app#etc":                                    false,
		"pkg:oci/app@" + digest + "?repository_url=r.example:5000/team/app&repository_url=r.example:5000/team/app": false,
		"pkg:oci/app@" + digest + "?repository_url=r.example:5000/team/app&vers=1":                                 false,
		"pkg:oci/app@" + digest + "?repository_url=%zz":                                                            false,
		"pkg:docker/team/app@" + digest + "?repository_url=r.example:5000/team/app":                                false,
		"pkg:oci/app@" + digest + "?repository_url=r.example:5000/team/app&tag=" + strings.Repeat("x", 5000):       false,
	} {
		if got := imageref.SamePURL(purl, name, digest); got != want {
			t.Errorf("SamePURL(%.200s) = %v", purl, got)
		}
	}
	if imageref.SamePURL("pkg:oci/app?repository_url="+name, name, "") {
		t.Error("no digest names a manifest")
	}
}

func FuzzPURL(f *testing.F) {
	f.Add("r.example:5000/team/app", "sha256:aa", "pkg:oci/app@sha256%3Aaa?repository_url=r.example:5000/team/app")
	f.Add("a b/c%2F", "x@y", "pkg:oci/%")
	f.Fuzz(func(t *testing.T, name, digest, other string) {
		p := imageref.PURL(name, digest)
		ref := imageref.Ref{Registry: "r.example", Repository: name, Digest: digest}
		if ref.Validate() == nil && !imageref.SamePURL(imageref.PURL(ref.Name(), digest), ref.Name(), digest) {
			t.Errorf("%s does not name its own manifest", p)
		}
		if strings.ContainsAny(strings.TrimPrefix(p, "pkg:oci/"), "/ #") {
			t.Errorf("%q has an unescaped separator", p)
		}
		imageref.SamePURL(other, name, digest)
	})
}
