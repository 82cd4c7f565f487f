package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func page(ds ...Descriptor) string {
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": MediaTypeOCIIndex, "manifests": ds})
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func listed(n int) Descriptor {
	return Descriptor{MediaType: MediaTypeOCIManifest, Digest: Digest(fmt.Append(nil, n)), Size: 10}
}

func TestReferrersPagination(t *testing.T) {
	subject := Digest([]byte("subject"))
	serve := func(t *testing.T, limit int, answer func(w http.ResponseWriter, page string)) (List, error) {
		t.Helper()
		f := newFixture(t, true)
		c := f.client(t, func(c *Config) { c.MaxReferrers = limit })
		f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if !strings.Contains(r.URL.Path, "/referrers/") {
				next.ServeHTTP(w, r)
				return
			}
			answer(w, r.URL.Query().Get("page"))
		})
		return c.Referrers(t.Context(), f.repo().WithDigest(subject), Filter{})
	}
	self := "/v2/team/app/referrers/" + subject
	for name, link := range map[string]string{
		"followed": self, "another path": "/registry/v2/team/app/referrers/" + subject,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := serve(t, 0, func(w http.ResponseWriter, p string) {
				if p == "" {
					w.Header().Set("Link", "<"+link+`?page=2>; rel="next"`)
					io.WriteString(w, page(listed(1), listed(2)))
					return
				}
				io.WriteString(w, page(listed(2), listed(3)))
			})
			if diff := cmp.Diff(List{Referrers: []Descriptor{listed(1), listed(2), listed(3)}}, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got)\n%s", err, diff)
			}
		})
	}
	incomplete := func(t *testing.T, l List, err error, why string, want ...Descriptor) {
		t.Helper()
		if err != nil || l.Incomplete == nil || !strings.Contains(l.Incomplete.Error(), why) {
			t.Errorf("incomplete: %v, %v, want %q", l.Incomplete, err, why)
		}
		if diff := cmp.Diff(want, l.Referrers); diff != "" {
			t.Errorf("what was read (-want +got)\n%s", diff)
		}
	}
	t.Run("endless", func(t *testing.T) {
		got, err := serve(t, 0, func(w http.ResponseWriter, _ string) {
			w.Header().Set("Link", "<"+self+`?page=2>; rel="next"`)
			io.WriteString(w, page(listed(1)))
		})
		incomplete(t, got, err, "leads back", listed(1))
		n := 0
		got, err = serve(t, 0, func(w http.ResponseWriter, _ string) {
			n++
			w.Header().Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, self, n))
			io.WriteString(w, page(listed(1)))
		})
		incomplete(t, got, err, "64 pages", listed(1))
		if n != maxReferrerPages {
			t.Errorf("%d pages were read", n)
		}
	})
	t.Run("too many", func(t *testing.T) {
		for _, last := range []string{page(listed(3)), page(listed(3), listed(4), listed(5))} {
			got, err := serve(t, 2, func(w http.ResponseWriter, p string) {
				if p == "" {
					w.Header().Set("Link", "<"+self+`?page=2>; rel="next"`)
					io.WriteString(w, page(listed(1), listed(2)))
					return
				}
				io.WriteString(w, last)
			})
			incomplete(t, got, err, "more than 2 referrers", listed(1), listed(2))
		}
		got, err := serve(t, 0, func(w http.ResponseWriter, _ string) {
			io.WriteString(w, `{"schemaVersion":2,"manifests":["`+strings.Repeat("x", int(DefaultMaxManifest))+`"]}`)
		})
		incomplete(t, got, err, "too large")
	})
	t.Run("elsewhere", func(t *testing.T) {
		for _, link := range []string{"http://169.254.169.254/latest", "//evil.example" + self, "file:///etc/passwd", "http://user@evil.example/", "http://%zz"} {
			got, err := serve(t, 0, func(w http.ResponseWriter, _ string) {
				w.Header().Set("Link", "<"+link+`>; rel="next"`)
				io.WriteString(w, page(listed(1)))
			})
			incomplete(t, got, err, "its next page", listed(1))
		}
	})
	t.Run("a later page fails", func(t *testing.T) {
		for _, status := range []int{http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed} {
			got, err := serve(t, 0, func(w http.ResponseWriter, p string) {
				if p != "" {
					registryError(w, status, "UNSUPPORTED", "no such page")
					return
				}
				w.Header().Set("Link", "<"+self+`?page=2>; rel="next"`)
				io.WriteString(w, page(listed(1)))
			})
			if status == http.StatusBadRequest { // it read the page before: an expired token
				if !Temporary(err) {
					t.Errorf("status %d: %v", status, err)
				}
				continue
			}
			incomplete(t, got, err, "a later page", listed(1))
		}
	})
	t.Run("entries that cannot be read are named", func(t *testing.T) {
		small := Descriptor{MediaType: MediaTypeDockerManifest, Digest: Digest(nil)}
		got, err := serve(t, 0, func(w http.ResponseWriter, _ string) {
			all := page(listed(1), listed(1), Descriptor{MediaType: MediaTypeOCIManifest, Digest: "sha512:12", Size: 1},
				Descriptor{MediaType: "text/plain", Digest: Digest([]byte("a")), Size: 1}, small)
			io.WriteString(w, strings.Replace(all, `"manifests":[`, `"manifests":[7,{"digest":{}},`, 1))
		})
		want := List{
			Referrers: []Descriptor{listed(1), small},
			Rejected: []RejectedReferrer{
				{"sha512:12", "its digest is not usable"}, {Digest([]byte("a")), `it is not a manifest but "text/plain"`},
				{"", "2 entries of the list are no descriptors"},
			},
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v (-want +got)\n%s", err, diff)
		}
	})
	t.Run("failing", func(t *testing.T) {
		// A registry in trouble must not look like one without the API.
		_, err := serve(t, 0, func(w http.ResponseWriter, _ string) { registryError(w, http.StatusInternalServerError, "X", "boom") })
		if !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
	})
}

// TestReferrers_NotAList: what is no list of referrers never counts as an empty one.
func TestReferrers_NotAList(t *testing.T) {
	for name, body := range map[string]string{
		"nothing": "", "no list": `{}`, "errors": `{"errors":[]}`, "cut short": `{"schemaVersion":2,"manifests":[`,
		"two lists": `{"manifests":[],"manifests":[]}`, "folded": `{"manifests":[],"Manifests":[]}`, "other case": `{"MANIFESTS":[]}`,
		"followed": page() + "{}", "a manifest": testManifest, "text": "ok", "list": `[]`, "object": `{"manifests":{}}`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, true)
			c := f.client(t)
			d := f.push(t, c, "v1")
			f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if strings.Contains(r.URL.Path, "/referrers/") {
					w.Header().Set("Content-Type", MediaTypeOCIIndex)
					io.WriteString(w, body)
					return
				}
				next.ServeHTTP(w, r)
			})
			if l, err := c.Referrers(t.Context(), f.repo().WithDigest(d.Digest), Filter{}); !errors.Is(err, ErrMalformed) {
				t.Errorf("%+v, %v, want ErrMalformed", l, err)
			}
		})
	}
}

func TestReferrers_Filter(t *testing.T) {
	typed := func(n int, artifactType string) Descriptor {
		d := listed(n)
		d.ArtifactType = artifactType
		return d
	}
	f := newFixture(t, true)
	c := f.client(t, func(c *Config) { c.MaxReferrers = 10 })
	subject := f.push(t, c, "v1")
	ref := f.repo().WithDigest(subject.Digest)
	var foreign []Descriptor
	for n := range 10*listedFactor + 1 {
		foreign = append(foreign, typed(n, "application/vnd.foreign"))
	}
	ours := typed(-1, "application/vnd.ours")
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		switch {
		case !strings.Contains(r.URL.Path, "/referrers/"):
			next.ServeHTTP(w, r)
		case r.URL.Query().Get("artifactType") == ours.ArtifactType:
			w.Header().Set("OCI-Filters-Applied", "artifactType")
			io.WriteString(w, page(ours))
		default:
			io.WriteString(w, page(append(foreign, ours)...))
		}
	})
	keep := func(d Descriptor) bool { return d.ArtifactType == ours.ArtifactType }
	l, err := c.Referrers(t.Context(), ref, Filter{ArtifactType: ours.ArtifactType, Keep: keep})
	if err != nil || len(l.Referrers) != 1 || !l.Has(ours.Digest) || l.Incomplete == nil {
		t.Errorf("%+v, %v", l, err)
	}
	crowd := make([]Descriptor, 0, 30)
	for n := range cap(crowd) {
		crowd = append(crowd, typed(1000+n, ours.ArtifactType))
	}
	foreign = crowd
	l, err = c.Referrers(t.Context(), ref, Filter{Keep: keep, First: []string{ours.Digest}})
	if err != nil || len(l.Referrers) != 11 || !l.Has(ours.Digest) || !errors.Is(l.Incomplete, ErrTooLarge) {
		t.Errorf("a crowd before ours: %+v, %v", l, err)
	}
	foreign = nil
	for n := range 10*listedFactor - 1 {
		foreign = append(foreign, typed(n, "application/vnd.foreign"))
	}
	before := f.count("/referrers/")
	l, err = c.Referrers(t.Context(), ref, Filter{ArtifactType: ours.ArtifactType, Keep: keep, Until: []string{ours.Digest}})
	if err != nil || !l.Has(ours.Digest) || l.Incomplete != nil {
		t.Errorf("a whole list: %+v, %v", l, err)
	}
	if n := f.count("/referrers/") - before; n != 1 {
		t.Errorf("%d requests for a list of one page", n)
	}
	if n := f.count("GET /v2/team/app/manifests/sha256-"); n != 2 {
		t.Errorf("the tag was read %d times, want 2: all that was looked for had been found", n)
	}
}

func TestNextPage(t *testing.T) {
	here, err := http.NewRequest(http.MethodGet, "https://registry.example/v2/a/referrers/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	for link, want := range map[string]string{
		"":                                        "",
		`</v2/a/referrers/x?n=1>`:                 "",
		`<?n=1>; rel="prev"`:                      "",
		`<?n=1>; rel=next`:                        "https://registry.example/v2/a/referrers/x?n=1",
		`<?n=1>; Rel="next"; title="a, b"`:        "https://registry.example/v2/a/referrers/x?n=1",
		`<?n=1,2>;rel="next"`:                     "https://registry.example/v2/a/referrers/x?n=1,2",
		`<?n=0>; rel="prev", <?n=2>; rel="next"`:  "https://registry.example/v2/a/referrers/x?n=2",
		`<http://Registry.example/y#z>; rel=next`: "https://Registry.example/y",
	} {
		next := nextPage(&http.Response{Request: here, Header: http.Header{"Link": {link}}})
		if (next == nil) != (want == "") || next != nil && (next.err != nil || next.url.String() != want) {
			t.Errorf("%s: %+v, want %q", link, next, want)
		}
	}
}

func FuzzParseReferrersIndex(f *testing.F) {
	f.Add([]byte(page(listed(1), listed(2))))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:x","size":-1}],"annotations":{"a":"b"}}`))
	f.Add([]byte(`{"manifests":null}`))
	f.Add([]byte(`{"manifests":[7,{"digest":"<<"},{"digest":"a","DIGEST":"b"}],"annotations":7}`))
	f.Add([]byte(`{"manifests":[],"maniFests":[]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		const limit, room = 10, 4096
		index, err := parseReferrersIndex(raw, limit)
		if err != nil {
			return
		}
		if len(index.entries)+index.garbage > limit+1 {
			t.Fatalf("%d entries", len(index.entries))
		}
		next, lost, err := index.with([]Descriptor{listed(-1)}, 2, limit, room)
		if err != nil {
			t.Fatal(err)
		}
		written, err := next.marshal()
		if err != nil {
			t.Fatalf("cannot be written back: %v", err)
		}
		if len(written) > room {
			t.Fatalf("%d bytes, there is room for %d", len(written), room)
		}
		again, err := parseReferrersIndex(written, limit)
		if err != nil || again.garbage != 0 || again.cut {
			t.Fatalf("cannot be read back: %+v, %v", again, err)
		}
		if !again.has(listed(-1).Digest, 2) {
			t.Fatal("ours cannot be seen")
		}
		others := len(index.entries)
		if index.has(listed(-1).Digest, others) {
			return
		}
		if len(again.entries)+lost != others+1 {
			t.Fatalf("%d entries became %d, %d are lost", others, len(again.entries), lost)
		}
	})
}
