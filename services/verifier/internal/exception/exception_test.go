package exception

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

const good = `apiVersion: seaworthy.dev/v1
kind: Exception
metadata:
  name: text-cve
spec:
  target: CVE-2022-32149
  repositories: r.example/team/**
  purl: pkg:golang/golang.org/x/text
  owner: team-a
  reason: not reachable
  ticket: https://tickets.example/1
  justification: vulnerable_code_not_in_execute_path
  expires: 2026-12-31T00:00:00Z
`

func TestParse(t *testing.T) {
	t.Parallel()
	set, err := Parse("e.yaml", []byte("---\n"+good+"---\n"+strings.NewReplacer("text-cve", "rule", "CVE-2022-32149", "rule:baseline/not-root", "  purl: pkg:golang/golang.org/x/text\n", "", "  justification: vulnerable_code_not_in_execute_path\n", "").Replace(good)))
	if err != nil || len(set) != 2 {
		t.Fatalf("%+v, %v", set, err)
	}
	want := Exception{
		Name: "text-cve", Target: "CVE-2022-32149", Repositories: "r.example/team/**", Purl: "pkg:golang/golang.org/x/text",
		Owner: "team-a", Reason: "not reachable", Ticket: "https://tickets.example/1", ExpireTime: time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC),
		Justification: "vulnerable_code_not_in_execute_path",
	}
	if d := cmp.Diff(want, set[0]); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	body, digest, err := set[0].Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Decode(body)
	if err != nil || cmp.Diff(set[0], again) != "" {
		t.Errorf("decoded: %+v, %v", again, err)
	}
	c, err := set[0].Core()
	if err != nil || c.Digest != digest || c.Vulnerability != "CVE-2022-32149" || c.Rule != "" || c.Justification != set[0].Justification || c.Ticket != set[0].Ticket {
		t.Errorf("core: %+v, %v", c, err)
	}
	if !c.Matches(imageref.Ref{Registry: "r.example", Repository: "team/app"}, "") || c.Matches(imageref.Ref{Registry: "r.example", Repository: "other/app"}, "") {
		t.Error("matches the wrong repositories")
	}
	if c, err := set[1].Core(); err != nil || c.Policy != "baseline" || c.Rule != "not-root" || c.Vulnerability != "" {
		t.Errorf("core of a rule's: %+v, %v", c, err)
	}
	byDigest := set[0]
	byDigest.Repositories, byDigest.ImageDigest = "", "sha256:"+strings.Repeat("a", 64)
	if c, err := byDigest.Core(); err != nil || !c.Matches(imageref.Ref{}, byDigest.ImageDigest) || !c.Matches(imageref.Ref{Digest: byDigest.ImageDigest}, "") || c.Matches(imageref.Ref{}, "sha256:b") {
		t.Errorf("core by digest: %+v, %v", c, err)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	replace := func(old, with string) string { return strings.Replace(good, old, with, 1) }
	for name, tc := range map[string]struct{ doc, want string }{
		"unknown field":       {good + "  expiry: never\n", "e.yaml:14:3: spec.expiry: unknown field; there are target,"},
		"tag":                 {replace("r.example/team/**", "r.example/team/app:v1"), `spec.repositories: "r.example/team/app:v1" names a tag`},
		"no package URL":      {replace("pkg:golang/golang.org/x/text", "golang.org/x/text"), "spec.purl: must be a package URL"},
		"range of versions":   {replace("golang.org/x/text", "golang.org/x/text@<0.3.8"), "spec.purl: can match no package: it names a range of versions"},
		"purl of an image":    {replace("pkg:golang/golang.org/x/text", "pkg:oci/app?tag=v1"), "spec.purl: names an image"},
		"no end":              {replace("  expires: 2026-12-31T00:00:00Z\n", ""), "e.yaml:5:1: spec.expires: every exception needs an end"},
		"no time":             {replace("2026-12-31T00:00:00Z", "never"), "e.yaml:13:12: spec.expires: must be a time, for example"},
		"no owner":            {replace("owner: team-a", "owner: ' '"), "e.yaml:9:10: spec.owner: must have 1 to 200 bytes"},
		"no reason":           {replace("reason: not reachable", "reason: ''"), "reason: must have 1 to 500 bytes"},
		"long ticket":         {replace("https://tickets.example/1", strings.Repeat("x", 501)), "ticket: must have 0 to 500"},
		"bad name":            {replace("text-cve", "Text CVE"), "e.yaml:4:9: metadata.name: must be 1 to 63"},
		"bad target":          {replace("CVE-2022-32149", "'everything at all'"), "target: must be"},
		"bad rule":            {replace("CVE-2022-32149", "rule:a/b/c"), "target: must be"},
		"purl of a rule":      {replace("CVE-2022-32149", "rule:not-root"), "purl: an exception from a rule"},
		"bad purl":            {replace("pkg:golang/golang.org/x/text", "x/text"), "purl: must be a package URL"},
		"nowhere":             {replace("  repositories: r.example/team/**\n", ""), "repositories: a glob of repositories or an image's digest"},
		"both":                {replace("  owner", "  image_digest: sha256:aa\n  owner"), "not both"},
		"digest of algorithm": {replace("repositories: r.example/team/**", "image_digest: sha512:aa"), "e.yaml:7:17: spec.image_digest: digest \"sha512:aa\" lacks the prefix sha256"},
		"bad word":            {replace("vulnerable_code_not_in_execute_path", "trust_me"), "justification: must be empty or one of component_not_present"},
		"word of a rule":      {replace("CVE-2022-32149", "rule:not-root"), "justification: an exception from a rule has none"},
		"bad glob":            {replace("r.example/team/**", "'a b'"), "invalid pattern"},
		"wrong kind":          {replace("kind: Exception", "kind: Policy"), "e.yaml:2:7: kind: must be Exception"},
		"twice":               {good + "---\n" + good, "e.yaml:18:9: metadata.name: the name \"text-cve\" is used twice"},
		"too large":           {strings.Repeat("#", MaxFile+1), "more than 1048576"},
		"no YAML":             {"a: [", "e.yaml: line 1: did not find expected"},
	} {
		set, err := Parse("e.yaml", []byte(tc.doc))
		if err == nil || set != nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, %v; want %q", name, set, err, tc.want)
		}
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{"a.yaml": good, "b.yml": strings.Replace(good, "text-cve", "other", 1), "c.txt": "x", ".d.yaml": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if set, err := Load(dir, nil); err != nil || len(set) != 2 {
		t.Errorf("%+v, %v", set, err)
	}
	if _, err := Load(dir, []string{filepath.Join(dir, "a.yaml")}); err == nil || !strings.Contains(err.Error(), "used by another file") {
		t.Errorf("a name twice: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "none"), []string{filepath.Join(dir, "none")}); err == nil {
		t.Error("a directory that is not there was read")
	}
	if set, err := Load("", nil); err != nil || len(set) != 0 {
		t.Errorf("nothing: %+v, %v", set, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("---\n---\na: &a [*a]\n"))
	f.Add([]byte(strings.NewReplacer("CVE-2022-32149", "rule:p/r", "  purl: pkg:golang/golang.org/x/text\n", "", "  justification: vulnerable_code_not_in_execute_path\n", "").Replace(good)))
	f.Add([]byte(strings.Replace(good, "repositories: r.example/team/**", "image_digest: sha256:"+strings.Repeat("a", 64), 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := Parse("f", data)
		if err != nil {
			if set != nil {
				t.Error("exceptions and an error")
			}
			return
		}
		for _, e := range set {
			body, digest, err := e.Encode()
			if err != nil {
				t.Fatal(err)
			}
			again, err := Decode(body)
			if err != nil {
				t.Fatal(err)
			}
			if c, err := again.Core(); err != nil || c.Digest != digest || c.ExpireTime.IsZero() {
				t.Errorf("its own form is not accepted: %+v, %v", c, err)
			}
		}
	})
}
