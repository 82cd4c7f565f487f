package registry

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

func TestLyingDigests(t *testing.T) {
	f := newFixture(t, true)
	c := f.client(t)
	d := f.push(t, c, "v1")
	blob := []byte("0123456789")
	tgt, err := c.target("test", f.repo())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.putBlob(t.Context(), tgt, blob); err != nil {
		t.Fatal(err)
	}
	bd := Descriptor{Digest: Digest(blob), Size: int64(len(blob))}
	if got, err := c.ReadBlob(t.Context(), f.repo(), bd, 100); err != nil || !bytes.Equal(got, blob) {
		t.Fatalf("honest blob: %q, %v", got, err)
	}
	if _, err := c.ReadBlob(t.Context(), f.repo(), bd, 9); !errors.Is(err, ErrTooLarge) {
		t.Errorf("blob over the limit: %v", err)
	}
	for name, lie := range map[string]string{"other bytes": "0123456780", "too short": "012345678", "too long": "01234567890", "empty": ""} {
		for _, chunked := range []bool{false, true} {
			f.intercept(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
				if chunked {
					w.(http.Flusher).Flush()
				}
				io.WriteString(w, lie)
			})
			if _, err := c.ReadBlob(t.Context(), f.repo(), bd, 100); !errors.Is(err, ErrDigestMismatch) {
				t.Errorf("%s, chunked %v: %v", name, chunked, err)
			}
		}
	}
	f.intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", MediaTypeOCIManifest)
		w.Header().Set("Docker-Content-Digest", Digest([]byte("something else")))
		if r.Method == http.MethodGet {
			io.WriteString(w, testManifest+" ")
		} else {
			w.Header().Set("Content-Length", "100")
		}
	})
	byTag := f.repo()
	byTag.Tag = "v1"
	for name, ref := range map[string]imageref.Ref{"by digest": f.repo().WithDigest(d.Digest), "by tag": byTag} {
		if _, _, err := c.Manifest(t.Context(), ref); !errors.Is(err, ErrDigestMismatch) {
			t.Errorf("manifest %s: %v", name, err)
		}
	}
	if _, err := c.Resolve(t.Context(), f.repo().WithDigest(d.Digest)); !errors.Is(err, ErrDigestMismatch) {
		t.Errorf("resolve: %v", err)
	}
}

func TestManifestLimitsAndShapes(t *testing.T) {
	f := newFixture(t, true)
	c := f.client(t, func(c *Config) { c.MaxManifest = 1000 })
	for name, tc := range map[string]struct {
		body string
		want error
	}{
		"oversized":           {`{"x":"` + strings.Repeat("a", 1000) + `"}`, ErrTooLarge},
		"not JSON":            {"<html>", ErrMalformed},
		"both":                {`{"layers":[],"manifests":[]}`, ErrMalformed},
		"index with layers":   {`{"mediaType":"` + MediaTypeOCIIndex + `","layers":[]}`, ErrMalformed},
		"manifest with index": {`{"mediaType":"` + MediaTypeOCIManifest + `","manifests":[]}`, ErrMalformed},
		"manifests twice":     {`{"mediaType":"` + MediaTypeOCIIndex + `","manifests":[{}],"manifests":[]}`, ErrMalformed},
		"in capitals":         {`{"mediaType":"` + MediaTypeOCIIndex + `","manifests":[{}],"Manifests":[]}`, ErrMalformed},
		"long s":              {`{"mediaType":"` + MediaTypeOCIIndex + `","manifeſts":[]}`, ErrMalformed},
		"twice, deep":         {`{"mediaType":"` + MediaTypeOCIIndex + `","manifests":[{"platform":{"os":"linux","os":"unknown"}}]}`, ErrMalformed},
		"fine":                {`{"mediaType":"` + MediaTypeOCIManifest + `"}`, nil},
	} {
		f.intercept(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { io.WriteString(w, tc.body) })
		if _, _, err := c.Manifest(t.Context(), f.repo().WithDigest(Digest([]byte(tc.body)))); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStalledStreamEnds(t *testing.T) {
	f := newFixture(t, true)
	release := make(chan struct{})
	defer close(release)
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.URL.Path == "/v2/" {
			next.ServeHTTP(w, r)
			return
		}
		io.WriteString(w, "01")
		w.(http.Flusher).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	c := f.client(t, func(c *Config) { c.StallTimeout = 50 * time.Millisecond })
	_, err := c.ReadBlob(t.Context(), f.repo(), Descriptor{Digest: Digest(nil), Size: 10}, 100)
	if !errors.Is(err, errStalled) || !Temporary(err) {
		t.Errorf("%v", err)
	}
}

// A reader may take longer than the registry may.
func TestSlowReaderIsNoStall(t *testing.T) {
	f := newFixture(t, true)
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // more than buffers hold
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.URL.Path == "/v2/" {
			next.ServeHTTP(w, r)
			return
		}
		w.Write(content)
	})
	const stall = 50 * time.Millisecond
	c := f.client(t, func(c *Config) { c.StallTimeout = stall })
	r, err := c.Blob(t.Context(), f.repo(), Descriptor{Digest: Digest(content), Size: int64(len(content))})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	head := make([]byte, 16)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * stall)
	rest, err := io.ReadAll(r)
	if err != nil || len(head)+len(rest) != len(content) {
		t.Errorf("read %d bytes of %d: %v", len(head)+len(rest), len(content), err)
	}
}
