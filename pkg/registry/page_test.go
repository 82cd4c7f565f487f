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

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
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
	serve := func(t *testing.T, limit int, answer func(w http.ResponseWriter, page string)) ([]Descriptor, error) {
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
		return c.Referrers(t.Context(), f.repo().WithDigest(subject))
	}
	self := "/v2/team/app/referrers/" + subject
	t.Run("followed", func(t *testing.T) {
		got, err := serve(t, 0, func(w http.ResponseWriter, p string) {
			if p == "" {
				w.Header().Set("Link", "<"+self+`?page=2>; rel="next"`)
				io.WriteString(w, page(listed(1), listed(2)))
				return
			}
			io.WriteString(w, page(listed(2), listed(3)))
		})
		if diff := cmp.Diff([]Descriptor{listed(1), listed(2), listed(3)}, got); diff != "" || err != nil {
			t.Errorf("%v (-want +got)\n%s", err, diff)
		}
	})
	t.Run("endless", func(t *testing.T) {
		_, err := serve(t, 0, func(w http.ResponseWriter, _ string) {
			w.Header().Set("Link", "<"+self+`?page=2>; rel="next"`)
			io.WriteString(w, page(listed(1)))
		})
		if !errors.Is(err, ErrTooLarge) {
			t.Error(err)
		}
	})
	t.Run("too many", func(t *testing.T) {
		for _, last := range []string{page(listed(3)), page(listed(3), listed(4), listed(5))} {
			_, err := serve(t, 2, func(w http.ResponseWriter, p string) {
				if p == "" {
					w.Header().Set("Link", "<"+self+`?page=2>; rel="next"`)
					io.WriteString(w, page(listed(1), listed(2)))
					return
				}
				io.WriteString(w, last)
			})
			if !errors.Is(err, ErrTooLarge) {
				t.Error(err)
			}
		}
	})
	t.Run("elsewhere", func(t *testing.T) {
		for _, link := range []string{"http://169.254.169.254/latest", "/v2/other/referrers/" + subject, "//evil.example" + self} {
			_, err := serve(t, 0, func(w http.ResponseWriter, _ string) {
				w.Header().Set("Link", "<"+link+`>; rel="next"`)
				io.WriteString(w, page(listed(1)))
			})
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %v", link, err)
			}
		}
	})
	t.Run("impossible entries are left out", func(t *testing.T) {
		got, err := serve(t, 0, func(w http.ResponseWriter, _ string) {
			io.WriteString(w, page(listed(1), listed(1), Descriptor{MediaType: MediaTypeOCIManifest, Digest: "sha512:12", Size: 1},
				Descriptor{MediaType: "text/plain", Digest: Digest(nil), Size: 1}, Descriptor{MediaType: MediaTypeOCIManifest, Digest: Digest(nil)}))
		})
		if diff := cmp.Diff([]Descriptor{listed(1)}, got); diff != "" || err != nil {
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

func TestNextPage(t *testing.T) {
	here, err := http.NewRequest(http.MethodGet, "http://registry.example/v2/a/referrers/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	for link, want := range map[string]string{
		"":                                       "",
		`</v2/a/referrers/x?n=1>`:                "",
		`<?n=1>; rel="prev"`:                     "",
		`<?n=1>; rel=next`:                       "n=1",
		`<?n=1>; Rel="next"; title="a, b"`:       "n=1",
		`<?n=1,2>;rel="next"`:                    "n=1,2",
		`<?n=0>; rel="prev", <?n=2>; rel="next"`: "n=2",
	} {
		next, err := nextPage(&http.Response{Request: here, Header: http.Header{"Link": {link}}})
		if err != nil || (next == nil) != (want == "") || next != nil && next.RawQuery != want {
			t.Errorf("%s: %v, %v", link, next, err)
		}
	}
}

func FuzzParseReferrersIndex(f *testing.F) {
	f.Add([]byte(page(listed(1), listed(2))))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:x","size":-1}],"annotations":{"a":"b"}}`))
	f.Add([]byte(`{"manifests":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		index, err := parseReferrersIndex(raw, 10)
		if err != nil {
			return
		}
		for _, d := range index.descriptors() {
			if imageref.CheckDigest(d.Digest) != nil || d.Size <= 0 {
				t.Fatalf("impossible descriptor %+v", d)
			}
		}
		written, err := index.marshal()
		if err != nil {
			t.Fatalf("cannot be written back: %v", err)
		}
		again, err := parseReferrersIndex(written, 10)
		if err != nil {
			t.Fatalf("cannot be read back: %v", err)
		}
		if diff := cmp.Diff(index.descriptors(), again.descriptors()); diff != "" {
			t.Fatalf("changed by writing (-want +got)\n%s", diff)
		}
	})
}
