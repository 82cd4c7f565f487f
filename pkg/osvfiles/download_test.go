package osvfiles_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/osvfiles"
)

func TestDownload(t *testing.T) {
	modified := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	contents := map[string]string{"/a": "{}", "/b.zip": "PK\x03\x04", "/c": "cve,epss\n", "/d": "\x1f\x8b\x08\x00", "/empty": ""}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, ok := contents[r.URL.Path]
		if !ok {
			http.Error(w, "gone", http.StatusGone)
			return
		}
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(w, r, "", modified, strings.NewReader(content))
	}))
	defer srv.Close()
	dir := t.TempDir()
	for path, want := range map[string]string{"/a": "x.json", "/b.zip": "x.zip", "/c": "x.csv", "/d": "x.csv.gz", "/empty": "x.csv"} {
		d, err := osvfiles.Download(t.Context(), srv.Client(), srv.URL+path, dir, "x", osvfiles.Validators{}, 100)
		if err != nil || d.Path != filepath.Join(dir, want) || d.Validators.ETag != `"1"` || d.Validators.LastModified == "" {
			t.Errorf("%s: %+v, %v", path, d, err)
			continue
		}
		if got, err := os.ReadFile(d.Path); err != nil || string(got) != contents[path] {
			t.Errorf("%s: %q, %v", path, got, err)
		}
		for _, have := range []osvfiles.Validators{d.Validators, {ETag: `"1"`}, {LastModified: d.Validators.LastModified}} {
			if _, err := osvfiles.Download(t.Context(), srv.Client(), srv.URL+path, dir, "y", have, 100); !errors.Is(err, osvfiles.ErrNotModified) {
				t.Errorf("%s again: %v", path, err)
			}
		}
		if _, err := osvfiles.Download(t.Context(), srv.Client(), srv.URL+path, dir, "y", osvfiles.Validators{ETag: `"0"`}, 100); err != nil {
			t.Errorf("%s changed: %v", path, err)
		}
	}
	before, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{
		"too large": srv.URL + "/a", "gone": srv.URL + "/none?token=secret", "refused": "http://127.0.0.1:1/?token=secret", "malformed": "http://[::1",
	} {
		_, err := osvfiles.Download(t.Context(), srv.Client(), from, dir, "z", osvfiles.Validators{}, 1)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after, err := os.ReadDir(dir); err != nil || len(after) != len(before) {
		t.Errorf("failed downloads left files: %v, %v", after, err)
	}
}

// TestDownload_redirects: as registries are followed, never from https to http.
func TestDownload_redirects(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/deeper" {
			http.Redirect(w, r, "/deeper", http.StatusFound)
			return
		}
		if r.Header.Get("Authorization") != "" {
			t.Error("credentials for another host")
		}
		_, _ = w.Write([]byte("{}"))
	}))
	defer plain.Close()
	var target string
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/file" {
			_, _ = w.Write([]byte("{}"))
			return
		}
		http.Redirect(w, r, target, http.StatusFound)
	})
	secured, other := httptest.NewTLSServer(handler), httptest.NewServer(handler)
	defer secured.Close()
	defer other.Close()
	withUser := func(address string) string { return strings.Replace(address, "://", "://user:secret@", 1) }
	for _, c := range []struct{ from, to, want string }{
		{secured.URL, secured.URL + "/file", ""},
		{secured.URL, "/file", ""},
		{secured.URL, plain.URL, "redirects from https to \"http\""},
		{withUser(secured.URL), plain.URL + "/?token=secret", "redirects from https to \"http\""},
		{other.URL, plain.URL, ""},
		{withUser(other.URL), strings.Replace(plain.URL, "127.0.0.1", "localhost", 1), ""},
		{other.URL, secured.URL + "/file", ""},
		{other.URL, plain.URL + "/deeper", "redirects more than 5 times"},
		{other.URL, "file:///etc/passwd", "redirects from http to \"file\""},
	} {
		target = c.to
		_, err := osvfiles.Download(t.Context(), secured.Client(), c.from, t.TempDir(), "x", osvfiles.Validators{}, 100)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("from %s to %s: %v, want %q", c.from, c.to, err, c.want)
		}
	}
}
