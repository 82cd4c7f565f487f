package registry

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDeleteReferrer(t *testing.T) {
	for name, api := range map[string]bool{"referrers API": true, "referrers tag": false} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, api)
			c := f.client(t)
			subject := f.push(t, c, "v1")
			ref := f.repo().WithDigest(subject.Digest)
			var put []string
			for n := range 3 {
				d, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(n))
				if err != nil {
					t.Fatal(err)
				}
				put = append(put, d.Digest)
			}
			for range 2 { // the second time there is nothing to delete
				if err := c.DeleteReferrer(t.Context(), ref, put[1]); err != nil {
					t.Fatal(err)
				}
			}
			// A later write must not bring it back.
			d, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(3))
			if err != nil {
				t.Fatal(err)
			}
			left, err := listAll(t, c, ref)
			if err != nil {
				t.Fatal(err)
			}
			want := []string{put[0], put[2], d.Digest}
			slices.Sort(want)
			if diff := cmp.Diff(want, digests(left)); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			if _, err := c.Resolve(t.Context(), f.repo().WithDigest(put[1])); !errors.Is(err, ErrNotFound) {
				t.Errorf("the manifest is still there: %v", err)
			}
		})
	}
}

func TestDeleteReferrer_Refused(t *testing.T) {
	f := newFixture(t, false)
	c := f.client(t)
	subject := f.push(t, c, "v1")
	ref := f.repo().WithDigest(subject.Digest)
	d, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1))
	if err != nil {
		t.Fatal(err)
	}
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodDelete {
			registryError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "deletes are off")
			return
		}
		next.ServeHTTP(w, r)
	})
	if err := c.DeleteReferrer(t.Context(), ref, d.Digest); !errors.Is(err, ErrNoDeletes) {
		t.Errorf("DeleteReferrer() = %v, want ErrNoDeletes", err)
	}
	if left, err := listAll(t, c, ref); err != nil || len(left) != 1 {
		t.Errorf("the list was changed although nothing was deleted: %v, %v", left, err)
	}
	for _, bad := range []string{subject.Digest, "v1", ""} {
		if err := c.DeleteReferrer(t.Context(), ref, bad); !errors.Is(err, ErrInvalidReference) {
			t.Errorf("DeleteReferrer(%q) = %v, want ErrInvalidReference", bad, err)
		}
	}
	if n := f.count("DELETE"); n != 1 {
		t.Errorf("%d deletes were sent, want 1", n)
	}
}

// TestDeleteReferrer_NotFound: only what the registry says about the manifest itself
// counts as its absence.
func TestDeleteReferrer_NotFound(t *testing.T) {
	f := newFixture(t, false)
	c := f.client(t)
	subject := f.push(t, c, "v1")
	ref := f.repo().WithDigest(subject.Digest)
	d, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1))
	if err != nil {
		t.Fatal(err)
	}
	var answer func(http.ResponseWriter)
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodDelete {
			answer(w)
			return
		}
		next.ServeHTTP(w, r)
	})
	says := func(code, message string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { registryError(w, http.StatusNotFound, code, message) }
	}
	for name, tt := range map[string]func(http.ResponseWriter){
		"without a word":     func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) },
		"page of a proxy":    func(w http.ResponseWriter) { http.Error(w, "<html>404</html>", http.StatusNotFound) },
		"unknown repository": says("NAME_UNKNOWN", "repository name not known to registry"),
		"unknown project":    says("NOT_FOUND", "project team not found"),
		"another manifest":   says("NOT_FOUND", "artifact "+subject.Digest+" not found"),
	} {
		answer = tt
		if err := c.DeleteReferrer(t.Context(), ref, d.Digest); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: DeleteReferrer() = %v, want ErrNotFound", name, err)
		}
		if left, err := listAll(t, c, ref); err != nil || len(left) != 1 {
			t.Errorf("%s: the list was changed: %v, %v", name, left, err)
		}
	}
	for name, tt := range map[string]func(http.ResponseWriter){
		"unknown manifest": says("MANIFEST_UNKNOWN", "manifest unknown"),
		"Harbor":           says("NOT_FOUND", "artifact team/app@"+d.Digest+" not found"),
	} {
		answer = tt
		if err := c.DeleteReferrer(t.Context(), ref, d.Digest); err != nil {
			t.Errorf("%s: DeleteReferrer() = %v", name, err)
		}
	}
}

func TestMemory_Forgets(t *testing.T) {
	m := newMemory()
	now := time.Now()
	m.now = func() time.Time { return now }
	m.add("s", Descriptor{Digest: strings.Repeat("a", 3)})
	if len(m.of("s")) != 1 {
		t.Error("it forgot at once")
	}
	now = now.Add(rememberFor)
	if len(m.of("s")) != 0 {
		t.Error("it would bring back what was deleted meanwhile")
	}
}
