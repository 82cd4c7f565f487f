package registry

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

func TestPutBlob(t *testing.T) {
	f := newFixture(t, true)
	c := f.client(t)
	content := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	u := inMemory(content)
	if there, err := c.HasBlob(t.Context(), f.repo(), u.Digest); err != nil || there {
		t.Errorf("HasBlob() before = %v, %v", there, err)
	}
	// The first upload breaks off; the second begins anew.
	var broken atomic.Bool
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodPut && !broken.Swap(true) {
			io.CopyN(io.Discard, r.Body, 1000)
			registryError(w, http.StatusServiceUnavailable, "UNAVAILABLE", "later")
			return
		}
		next.ServeHTTP(w, r)
	})
	recordSleeps(c)
	if err := c.PutBlob(t.Context(), f.repo(), u); err != nil {
		t.Fatal(err)
	}
	f.intercept(nil)
	if there, err := c.HasBlob(t.Context(), f.repo(), u.Digest); err != nil || !there {
		t.Errorf("HasBlob() after = %v, %v", there, err)
	}
	got, err := c.ReadBlob(t.Context(), f.repo(), Descriptor{Digest: u.Digest, Size: u.Size}, u.Size)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("read back %d bytes, %v", len(got), err)
	}
	wrong := u
	wrong.Digest = Digest([]byte("other"))
	if err := c.PutBlob(t.Context(), f.repo(), wrong); err == nil {
		t.Error("content of another digest was taken")
	}
	elsewhere := imageref.Ref{Registry: "elsewhere.example", Repository: "x"}
	if err := c.PutBlob(t.Context(), elsewhere, u); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("PutBlob() elsewhere = %v", err)
	}
	if _, err := c.HasBlob(t.Context(), elsewhere, u.Digest); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("HasBlob() elsewhere = %v", err)
	}
}

// TestPutReferrerManifest_ConfigIsGone: what is known of a repository may no longer
// be true; a missing layer is told to the caller.
func TestPutReferrerManifest_ConfigIsGone(t *testing.T) {
	f := newFixture(t, true)
	c := f.client(t)
	subject := f.push(t, c, "v1")
	if _, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1)); err != nil {
		t.Fatal(err)
	}
	raw, err := ReferrerManifest(subject, "a/b", Descriptor{Digest: Digest(artifact(1).Content), Size: int64(len(artifact(1).Content))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var asked, refusals atomic.Int32
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/blobs/"+Digest(emptyConfig)) {
			asked.Add(1)
		}
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") && refusals.Add(-1) >= 0 {
			registryError(w, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry")
			return
		}
		next.ServeHTTP(w, r)
	})
	if _, _, err := c.PutReferrerManifest(t.Context(), f.repo(), raw); err != nil || asked.Load() != 0 {
		t.Errorf("a known repository: %v, asked %d times for the config", err, asked.Load())
	}
	refusals.Store(1)
	if _, _, err := c.PutReferrerManifest(t.Context(), f.repo(), raw); err != nil || asked.Load() != 1 {
		t.Errorf("a config that is gone: %v, asked %d times", err, asked.Load())
	}
	refusals.Store(2)
	if _, _, err := c.PutReferrerManifest(t.Context(), f.repo(), raw); !BlobUnknown(err) {
		t.Errorf("a layer that is missing: %v", err)
	}
	for _, bad := range []string{"", `{"subject":{"digest":"x"}}`} {
		if _, _, err := c.PutReferrerManifest(t.Context(), f.repo(), []byte(bad)); err == nil || BlobUnknown(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestRepositories_Bounded(t *testing.T) {
	var r repositories
	at := func(n int) target {
		return target{ref: imageref.Ref{Registry: "r", Repository: strings.Repeat("x", n+1)}}
	}
	for n := range maxRepositories + 1 {
		r.add(at(n))
	}
	if len(r.names) != 1 || !r.has(at(maxRepositories)) {
		t.Errorf("%d repositories are remembered", len(r.names))
	}
}
