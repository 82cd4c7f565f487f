package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

// listed reads all pages.
func allTags(t *testing.T, c *Client, repository imageref.Ref) ([]string, error) {
	t.Helper()
	var all []string
	for page, err := range c.Tags(t.Context(), repository) {
		if err != nil {
			return all, err
		}
		all = append(all, page...)
	}
	return all, nil
}

func TestTags(t *testing.T) {
	f := newFixture(t, true)
	c := f.client(t)
	for _, tag := range []string{"a", "b", "c"} {
		f.push(t, c, tag)
	}
	got, err := allTags(t, c, f.repo())
	slices.Sort(got)
	if diff := cmp.Diff([]string{"a", "b", "c"}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	none := f.repo()
	none.Repository = "no/such"
	if _, err := allTags(t, c, none); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown repository: %v", err)
	}
	var repositories []string
	for page, err := range c.Repositories(t.Context(), f.host) {
		if err != nil {
			t.Fatal(err)
		}
		repositories = append(repositories, page...)
	}
	if !slices.Equal(repositories, []string{"team/app"}) {
		t.Errorf("repositories %q", repositories)
	}
	for _, err := range c.Repositories(t.Context(), "other.example") {
		if !errors.Is(err, ErrNotAllowed) {
			t.Errorf("registry that is not configured: %v", err)
		}
	}
}

func TestTagsOfHostileRegistries(t *testing.T) {
	const self = "/v2/team/app/tags/list"
	for name, tt := range map[string]struct {
		answer func(w http.ResponseWriter, last string, n int)
		want   []string // nil: any number
		err    error
	}{
		"pages": {func(w http.ResponseWriter, last string, _ int) {
			if last == "" {
				w.Header().Set("Link", `<`+self+`?last=b>; rel="next"`)
				io.WriteString(w, `{"tags":["a","b"]}`)
				return
			}
			io.WriteString(w, `{"tags":["b","c"]}`)
		}, []string{"a", "b", "c"}, nil},
		"no tags": {func(w http.ResponseWriter, _ string, _ int) { io.WriteString(w, `{"name":"team/app","tags":null}`) }, []string{}, nil},
		"names that no reference has": {func(w http.ResponseWriter, _ string, _ int) {
			io.WriteString(w, `{"tags":["ok","../x","","a b","`+strings.Repeat("x", 200)+`","\u001b[31m"]}`)
		}, []string{"ok"}, nil},
		"same page forever": {func(w http.ResponseWriter, _ string, _ int) {
			w.Header().Set("Link", `<`+self+`?last=a>; rel="next"`)
			io.WriteString(w, `{"tags":["a"]}`)
		}, []string{"a"}, ErrTooLarge},
		"new tags forever": {func(w http.ResponseWriter, _ string, n int) {
			w.Header().Set("Link", fmt.Sprintf(`<%s?last=%d>; rel="next"`, self, n))
			fmt.Fprintf(w, `{"tags":["t%d"]}`, n)
		}, nil, ErrTooLarge},
		"elsewhere": {func(w http.ResponseWriter, _ string, _ int) {
			w.Header().Set("Link", `<http://169.254.169.254`+self+`>; rel="next"`)
			io.WriteString(w, `{"tags":["a"]}`)
		}, []string{"a"}, ErrMalformed},
		"huge page": {func(w http.ResponseWriter, _ string, _ int) {
			io.WriteString(w, `{"tags":["`+strings.Repeat(`a","`, 2<<20)+`"]}`)
		}, []string{}, ErrTooLarge},
		"HTML":        {func(w http.ResponseWriter, _ string, _ int) { io.WriteString(w, `<html>`) }, []string{}, ErrMalformed},
		"other shape": {func(w http.ResponseWriter, _ string, _ int) { io.WriteString(w, `{"tags":{"a":1}}`) }, []string{}, ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, true)
			c := f.client(t)
			n := 0
			f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.URL.Path != self {
					next.ServeHTTP(w, r)
					return
				}
				n++
				tt.answer(w, r.URL.Query().Get("last"), n)
			})
			got, err := allTags(t, c, f.repo())
			if !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			if tt.want != nil && !slices.Equal(got, tt.want) {
				t.Errorf("tags %q, want %q", got, tt.want)
			}
			if n > maxListPages {
				t.Errorf("%d requests", n)
			}
		})
	}
}
