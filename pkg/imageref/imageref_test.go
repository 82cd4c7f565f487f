package imageref

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestParse(t *testing.T) {
	tests := []struct {
		in   string
		want Ref
	}{
		{"alpine", Ref{"docker.io", "library/alpine", "latest", ""}},
		{"alpine:3.20", Ref{"docker.io", "library/alpine", "3.20", ""}},
		{"grafana/grafana", Ref{"docker.io", "grafana/grafana", "latest", ""}},
		{"docker.io/alpine", Ref{"docker.io", "library/alpine", "latest", ""}},
		{"index.docker.io/library/alpine", Ref{"docker.io", "library/alpine", "latest", ""}},
		{"localhost/app", Ref{"localhost", "app", "latest", ""}},
		{"localhost:5000/app", Ref{"localhost:5000", "app", "latest", ""}},
		{"127.0.0.1:5000/team/app:v1", Ref{"127.0.0.1:5000", "team/app", "v1", ""}},
		{"registry.example/a/b/c:1.0@" + digest, Ref{"registry.example", "a/b/c", "1.0", digest}},
		{"registry.example/app@" + digest, Ref{"registry.example", "app", "", digest}},
		{"alpine@" + digest, Ref{"docker.io", "library/alpine", "", digest}},
		{"[::1]:5000/app:v1", Ref{"[::1]:5000", "app", "v1", ""}},
		{"[2001:db8::1]/app", Ref{"[2001:db8::1]", "app", "latest", ""}},
		{"r.example/a.b_c__d---e/f", Ref{"r.example", "a.b_c__d---e/f", "latest", ""}},
		{"r.example/app:_A.b-" + strings.Repeat("x", 123), Ref{"r.example", "app", "_A.b-" + strings.Repeat("x", 123), ""}},
		{"registry:5000/app", Ref{"registry:5000", "app", "latest", ""}},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := Parse(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			again, err := Parse(got.String())
			if err != nil || again != got {
				t.Errorf("Parse(%q) = %v, %v", got.String(), again, err)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	tests := map[string]string{
		"empty":                  "",
		"upper-case repository":  "r.example/App",
		"upper-case host":        "R.example/app",
		"empty tag":              "r.example/app:",
		"empty digest":           "r.example/app@",
		"short digest":           "r.example/app@sha256:abc",
		"upper-case digest":      "r.example/app@" + strings.ToUpper(digest[7:]),
		"sha512":                 "r.example/app@sha512:" + strings.Repeat("a", 128),
		"two digests":            "r.example/app@" + digest + "@" + digest,
		"empty component":        "r.example/a//b",
		"leading slash":          "/app",
		"trailing slash":         "r.example/app/",
		"no repository":          "r.example/",
		"leading separator":      "r.example/-app",
		"trailing separator":     "r.example/app_",
		"three underscores":      "r.example/a___b",
		"two dots":               "r.example/a..b",
		"mixed separators":       "r.example/a._b",
		"parent":                 "r.example/../app",
		"space":                  "r.example/my app",
		"newline":                "r.example/app\n",
		"nul":                    "r.example/app\x00",
		"scheme":                 "https://r.example/app",
		"user":                   "user@r.example/app",
		"port 0":                 "r.example:0/app",
		"port with leading zero": "r.example:080/app",
		"port too large":         "r.example:65536/app",
		"port not a number":      "r.example:http/app",
		"host label with dash":   "-r.example/app",
		"empty host label":       "r..example/app",
		"ipv6 without bracket":   "[::1/app",
		"ipv6 zone":              "[fe80::1%eth0]:5000/app",
		"ipv4 in brackets":       "[127.0.0.1]:5000/app",
		"text after bracket":     "[::1]x/app",
		"tag with leading dot":   "r.example/app:.x",
		"tag with slash":         "r.example/app:a/b",
		"tag too long":           "r.example/app:" + strings.Repeat("x", MaxTag+1),
		"repository too long":    "r.example/" + strings.Repeat("x", MaxRepository+1),
		"registry too long":      strings.Repeat("a.", MaxRegistry/2) + "example/app",
		"label too long":         strings.Repeat("a", 64) + ".example/app",
		"input too long":         "r.example/" + strings.Repeat("x", MaxInput),
		"not ascii":              "r.example/äpp",
	}
	for name, in := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := Parse(in); err == nil {
				t.Errorf("Parse(%q) = %+v, want an error", in, got)
			}
		})
	}
}

func TestValidateOfAHandMadeRef(t *testing.T) {
	good := Ref{Registry: "r.example:5000", Repository: "app", Digest: digest}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	tests := map[string]Ref{
		"zero":                 {},
		"no name for the host": {Registry: "registry", Repository: "app", Tag: "v1"},
		"neither":              {Registry: "r.example", Repository: "app"},
		"bad digest":           good.WithDigest("sha256:xyz"),
		"registry with a path": {Registry: "r.example/x", Repository: "app", Tag: "v1"},
	}
	for name, r := range tests {
		t.Run(name, func(t *testing.T) {
			if err := r.Validate(); err == nil {
				t.Errorf("%+v is valid", r)
			}
		})
	}
}

func TestLimitsAreInclusive(t *testing.T) {
	host := strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("a", 61) + ":1"
	if len(host) != MaxRegistry {
		t.Fatalf("the test's host has %d bytes", len(host))
	}
	r := Ref{host, strings.Repeat("x", MaxRepository), strings.Repeat("y", MaxTag), digest}
	if len(r.String()) != MaxInput {
		t.Fatalf("the longest reference has %d bytes, MaxInput is %d", len(r.String()), MaxInput)
	}
	if got, err := Parse(r.String()); err != nil || got != r {
		t.Errorf("Parse of the longest reference: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "alpine", "a/b:c@" + digest, "localhost:5000/app", "[::1]:5000/app", "r.example/a__b", "::", "@", "/", "a:b:c", "docker.io/x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil {
			return
		}
		if err := r.Validate(); err != nil {
			t.Fatalf("Parse(%q) = %+v, which is not valid: %v", s, r, err)
		}
		again, err := Parse(r.String())
		if err != nil || again != r {
			t.Fatalf("Parse(%q) = %+v; its String %q gives %+v, %v", s, r, r.String(), again, err)
		}
	})
}

func ExampleParse() {
	r, err := Parse("127.0.0.1:5000/team/app:v1")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.Registry, r.Repository, r.Tag)
	fmt.Println(r.WithDigest("sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"))

	_, err = Parse("https://registry.example/app")
	fmt.Println(err != nil)
	// Output:
	// 127.0.0.1:5000 team/app v1
	// 127.0.0.1:5000/team/app:v1@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
	// true
}
