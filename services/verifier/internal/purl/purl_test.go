package purl

import (
	"net/url"
	"strings"
	"testing"
)

func parse(tb testing.TB, s string) *Purl {
	tb.Helper()
	p, err := Parse(s)
	if err != nil {
		tb.Fatalf("%s: %v", s, err)
	}
	return &p
}

func TestMisses(t *testing.T) {
	t.Parallel()
	const deb = "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12"
	for name, tc := range map[string]struct {
		want, have string
		// why it does not match; empty if it does.
		why string
	}{
		"the same":                      {deb, deb, ""},
		"literal plus":                  {"pkg:deb/debian/libstdc++6@1:12.2.0-14+deb12u1", deb, ""},
		"encoded colon":                 {"pkg:deb/debian/libstdc++6@1%3A12.2.0-14%2bdeb12u1", deb, ""},
		"upper case":                    {"PKG:DEB/Debian/LibStdC++6", deb, ""},
		"slashes":                       {"pkg://deb//debian/libstdc++6", deb, ""},
		"qualifiers in another order":   {"pkg:deb/debian/libstdc++6?DISTRO=debian-12&arch=amd64", deb, ""},
		"qualifier without a value":     {"pkg:deb/debian/libstdc++6?arch=", deb, ""},
		"another architecture":          {"pkg:deb/debian/libstdc++6?arch=arm64", deb, `asks for arch=arm64, the package has "amd64"`},
		"another distribution":          {"pkg:deb/debian/libstdc++6?distro=debian-11", deb, "asks for distro=debian-11"},
		"a qualifier that is not there": {"pkg:deb/debian/libstdc++6?epoch=1", deb, `asks for epoch=1, the package has ""`},
		"another version":               {"pkg:deb/debian/libstdc++6@1", deb, "is another version than 1:12.2.0-14+deb12u1"},
		"space is no plus":              {"pkg:deb/debian/libstdc++6@1:12.2.0-14%20deb12u1", deb, "is another version"},
		"another namespace":             {"pkg:deb/ubuntu/libstdc++6", deb, "is another package"},
		"no namespace":                  {"pkg:deb/libstdc++6", deb, "is another package"},
		"another type":                  {"pkg:apk/debian/libstdc++6", deb, "is another package"},
		"a subpath":                     {"pkg:deb/debian/libstdc++6#usr/lib", deb, "has another subpath"},
		"scope":                         {"pkg:npm/@Babel/core@7", "pkg:npm/%40babel/core@7", ""},
		"scope encoded twice":           {"pkg:npm/%2540babel/core@7", "pkg:npm/%40babel/core@7", "is another package"},
		"encoded twice after a slash":   {"pkg:/npm/%2540babel/core@7", "pkg:npm/%40babel/core@7", "is another package"},
		"python":                        {"pkg:pypi/Ruamel.Yaml_Clib", "pkg:pypi/ruamel-yaml-clib@1", ""},
		"nuget":                         {"pkg:nuget/newtonsoft.json", "pkg:nuget/Newtonsoft.Json@13", ""},
		"maven keeps case":              {"pkg:maven/Org.A/b", "pkg:maven/org.a/b@1", "is another package"},
		"go":                            {"pkg:golang/github.com/Masterminds/semver", "pkg:golang/github.com/masterminds/semver@v3", ""},
		"version of a name's case":      {"pkg:golang/a.example/b@V1", "pkg:golang/a.example/b@v1", "is another version"},
	} {
		got := parse(t, tc.want).Misses(parse(t, tc.have))
		if tc.why == "" && got != "" || tc.why != "" && !strings.Contains(got, tc.why) {
			t.Errorf("%s: %q, want %q", name, got, tc.why)
		}
	}
}

func TestMissesImage(t *testing.T) {
	t.Parallel()
	index, manifest := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	image := Image{Registry: "r.example", Repository: "team/sub/app", Digests: []string{index, manifest}, Architecture: "arm", Variant: "v7"}
	hub := Image{Registry: "docker.io", Repository: "library/nginx", Digests: []string{index}, Architecture: "amd64"}
	for name, tc := range map[string]struct {
		purl  string
		image Image
		bound bool
		why   string
	}{
		"index":                        {"pkg:oci/app@" + index, image, false, ""},
		"manifest, encoded":            {"pkg:oci/App@sha256%3A" + strings.Repeat("B", 64), image, false, ""},
		"repository":                   {"pkg:oci/app?repository_url=r.example/team/sub/app", image, false, ""},
		"parent of the repository":     {"pkg:oci/app?repository_url=https://R.example/team/sub/", image, false, ""},
		"registry is not enough":       {"pkg:oci/app?repository_url=r.example", image, true, "is in r.example, not in r.example/team/sub/app"},
		"another repository":           {"pkg:oci/app@" + index + "?repository_url=other.example/app", image, true, "is in other.example/app"},
		"case of a repository":         {"pkg:oci/app?repository_url=r.example/Team/sub/app", image, true, "is in r.example/Team/sub/app"},
		"name alone":                   {"pkg:oci/app", image, false, "can be anywhere"},
		"name alone, bound":            {"pkg:oci/app", image, true, ""},
		"tag":                          {"pkg:oci/app@" + index + "?tag=v1", image, true, "it names a tag"},
		"version is a tag":             {"pkg:docker/app@v1", image, true, "its version is a tag"},
		"architecture":                 {"pkg:oci/app@" + index + "?arch=arm", image, true, ""},
		"architecture and variant":     {"pkg:oci/app@" + index + "?arch=arm/v7", image, true, ""},
		"another architecture":         {"pkg:oci/app@" + index + "?arch=amd64", image, true, "is for amd64, not for arm"},
		"another variant":              {"pkg:oci/app@" + index + "?arch=arm/v6", image, true, "is for arm/v6"},
		"namespace":                    {"pkg:docker/team/sub/app", image, true, ""},
		"a part of the namespace":      {"pkg:docker/sub/app", image, true, "is in sub/, not in"},
		"another namespace and digest": {"pkg:docker/evil/app@" + index, image, true, "is in evil/, not in"},
		"namespace with a registry":    {"pkg:docker/r.example/team/sub/app@" + index, image, false, ""},
		"namespace and registry":       {"pkg:docker/team/sub/app?repository_url=r.example", image, false, ""},
		"namespace, another registry":  {"pkg:docker/team/sub/app?repository_url=gcr.io", image, true, "is in gcr.io"},
		"Docker Hub":                   {"pkg:docker/library/nginx?repository_url=index.docker.io", hub, false, ""},
		"namespace, not bound":         {"pkg:docker/library/nginx", hub, false, "can be anywhere"},
		"unknown qualifier":            {"pkg:oci/app@" + index + "?mediaType=x", image, true, "asks for mediatype=x"},
		"subpath":                      {"pkg:oci/app@" + index + "#etc", image, true, "names a path"},
	} {
		got := parse(t, tc.purl).MissesImage(tc.image, tc.bound)
		if tc.why == "" && got != "" || tc.why != "" && !strings.Contains(got, tc.why) {
			t.Errorf("%s: %q, want %q", name, got, tc.why)
		}
	}
}

func TestUnmatchable(t *testing.T) {
	t.Parallel()
	for s, why := range map[string]string{
		"pkg:npm/a@>=1":                     "range of versions",
		"pkg:npm/a@1.*":                     "range of versions",
		"pkg:npm/a?vers=vers:npm/%3E%3D1":   "range of versions",
		"pkg:oci/a?tag=1":                   "names a tag",
		"pkg:docker/a@latest":               "version is a tag",
		"pkg:docker/a@sha256%3Aaa":          "",
		"pkg:deb/debian/a@1:2~rc1+b2?tag=1": "",
	} {
		err := parse(t, s).Unmatchable()
		if why == "" && err != nil || why != "" && (err == nil || !strings.Contains(err.Error(), why)) {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{"", "pkg:", "pkg:deb", "zlib", "http://a/b", "pkg:npm/a?arch=1&ARCH=2", "pkg:npm/a@%ff", "pkg:npm/" + strings.Repeat("a", MaxLength)} {
		if p, err := Parse(s); err == nil {
			t.Errorf("%.40s was read as %+v", s, p)
		}
	}
}

// FuzzMisses holds matching to two rules: spelling does not matter, and whoever says more
// matches no more.
func FuzzMisses(f *testing.F) {
	f.Add("pkg:deb/debian/libstdc++6@1:12?arch=amd64", "pkg:deb/debian/libstdc%2B%2B6@1%3A12?distro=debian-12&arch=amd64", "1+2")
	f.Add("pkg:npm/@a/b@1#x", "pkg:npm/%40a/b", "é")
	f.Add("pkg:oci/a@sha256:aa?tag=1", "pkg:docker/x/a", "v1")
	f.Fuzz(func(t *testing.T, a, b, value string) {
		want, err := Parse(a)
		if err != nil {
			return
		}
		if why := want.Misses(&want); why != "" {
			t.Fatalf("%q does not match itself: %s", a, why)
		}
		if again, err := Parse(spell(&want)); err != nil || !again.Equal(&want) {
			t.Fatalf("%q is another one when it is spelt %q: %v", a, spell(&want), err)
		}
		have, err := Parse(b)
		if err != nil {
			return
		}
		matches := want.Misses(&have) == ""
		for _, more := range []func(*Purl){
			func(p *Purl) { p.Qualifiers["x"] = value + "x" },
			func(p *Purl) {
				if p.Version == "" {
					p.Version = value
				}
			},
			func(p *Purl) {
				if p.Subpath == "" {
					p.Subpath = value
				}
			},
		} {
			narrow, _ := Parse(a)
			more(&narrow)
			if !matches && narrow.Misses(&have) == "" {
				t.Errorf("%q does not match %q, and does with more: %+v", a, b, narrow)
			}
			wide, _ := Parse(b)
			more(&wide)
			if _, asked := want.Qualifiers["x"]; matches && !asked && want.Misses(&wide) != "" {
				t.Errorf("%q matches %q, and not with more: %+v", a, b, wide)
			}
			i := Image{Registry: "r", Repository: "a", Digests: []string{"sha256:aa"}, Architecture: "amd64"}
			if want.MissesImage(i, true) != "" && narrow.MissesImage(i, true) == "" {
				t.Errorf("%q matches an image only with more: %+v", a, narrow)
			}
		}
	})
}

// spell writes a package URL with every byte encoded that can be.
func spell(p *Purl) string {
	encode := func(s string) string {
		var b strings.Builder
		for i := range len(s) {
			const hex = "0123456789abcdef"
			b.WriteString("%" + string(hex[s[i]>>4]) + string(hex[s[i]&15]))
		}
		return b.String()
	}
	var b strings.Builder
	b.WriteString("PKG:" + strings.ToUpper(p.Type))
	for segment := range strings.SplitSeq(p.Namespace, "/") {
		if segment != "" {
			b.WriteString("/" + encode(segment))
		}
	}
	b.WriteString("/" + encode(p.Name))
	if p.Version != "" {
		b.WriteString("@" + encode(p.Version))
	}
	separator := "?"
	for k, v := range p.Qualifiers {
		b.WriteString(separator + strings.ToUpper(k) + "=" + encode(v))
		separator = "&"
	}
	if p.Subpath != "" {
		b.WriteString("#" + (&url.URL{Fragment: p.Subpath}).EscapedFragment())
	}
	return b.String()
}
