package registry

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

func (f *fixture) withOCISubject(subject string) {
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("OCI-Subject", subject)
		}
		next.ServeHTTP(w, r)
	})
}

func TestPutReferrer(t *testing.T) {
	for _, tc := range []struct {
		name               string
		api, confirms, tag bool
	}{
		{"API", true, true, false},
		{"API that does not say so", true, false, true},
		{"no API", false, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, tc.api)
			c := f.client(t)
			subject := f.push(t, c, "v1")
			if tc.confirms {
				f.withOCISubject(subject.Digest)
			}
			ref := f.repo().WithDigest(subject.Digest)
			if list, err := listAll(t, c, ref); err != nil || len(list) != 0 {
				t.Fatalf("before: %v, %v", list, err)
			}
			want, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1))
			if err != nil {
				t.Fatal(err)
			}
			if again, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1)); err != nil || !cmp.Equal(want, again) {
				t.Fatalf("again: %v, %v", again, err)
			}
			got, err := listAll(t, c, ref)
			if err != nil {
				t.Fatal(err)
			}
			var ignore []cmp.Option
			if tc.api {
				// The registry in process reports the config's media type.
				ignore = append(ignore, cmpopts.IgnoreFields(Descriptor{}, "ArtifactType"))
			}
			if diff := cmp.Diff([]Descriptor{want}, got, ignore...); diff != "" {
				t.Errorf("referrers (-want +got)\n%s", diff)
			}
			index, _, err := c.readReferrersTagToWrite(t.Context(), ref)
			if err != nil || (len(index.entries) == 1) != tc.tag || len(index.entries) > 1 {
				t.Errorf("referrers tag: %v, %v", index, err)
			}
			checkManifest(t, c, f.repo().WithDigest(want.Digest), subject)
		})
	}
}

func checkManifest(t *testing.T, c *Client, ref imageref.Ref, subject Descriptor) {
	t.Helper()
	d, raw, err := c.Manifest(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if d.ArtifactType != artifact(1).ArtifactType {
		t.Errorf("artifact type %q", d.ArtifactType)
	}
	var got any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	content := artifact(1).Content
	want := map[string]any{
		"schemaVersion": 2.0, "mediaType": MediaTypeOCIManifest, "artifactType": artifact(1).ArtifactType,
		"config": map[string]any{"mediaType": MediaTypeEmpty, "size": 2.0,
			"digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},
		"layers": []any{map[string]any{
			"mediaType": artifact(1).ArtifactType, "size": float64(len(content)), "digest": Digest(content)}},
		"subject": map[string]any{
			"mediaType": MediaTypeOCIManifest, "size": float64(subject.Size), "digest": subject.Digest},
		"annotations": map[string]any{"example.n": "1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("manifest (-want +got)\n%s", diff)
	}
	if blob, err := c.ReadBlob(t.Context(), ref, Descriptor{Digest: Digest(content), Size: int64(len(content))}, 100); err != nil || string(blob) != string(content) {
		t.Errorf("layer: %q, %v", blob, err)
	}
}

func TestLostUploadSessionsAreOpenedAgain(t *testing.T) {
	f := newFixture(t, false)
	c := f.client(t)
	subject := f.push(t, c, "v1")
	recordSleeps(c)
	lose := 2
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/uploads/") {
			if lose--; lose >= 0 {
				registryError(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "which upload")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
	if _, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1)); err != nil {
		t.Error(err)
	}
	lose = 100
	if _, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(2)); !Temporary(err) {
		t.Errorf("sessions that are always lost: %v", err)
	}
}

func TestUploadSessionStaysHome(t *testing.T) {
	f := newFixture(t, false)
	c := f.client(t)
	subject := f.push(t, c, "v1")
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodPost {
			w.Header().Set("Location", "http://evil.example/upload")
			w.WriteHeader(http.StatusAccepted)
			return
		}
		next.ServeHTTP(w, r)
	})
	if _, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1)); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

func TestPutReferrerChecksItsArguments(t *testing.T) {
	f := newFixture(t, false)
	c := f.client(t)
	good := Descriptor{MediaType: MediaTypeOCIManifest, Digest: Digest(nil), Size: 1}
	for name, tc := range map[string]struct {
		subject Descriptor
		a       Artifact
	}{
		"no digest":     {Descriptor{MediaType: "a/b", Size: 1}, artifact(1)},
		"no media type": {Descriptor{Digest: good.Digest, Size: 1}, artifact(1)},
		"no size":       {Descriptor{Digest: good.Digest, MediaType: "a/b"}, artifact(1)},
		"no type":       {good, Artifact{}},
	} {
		if _, err := c.PutReferrer(t.Context(), f.repo(), tc.subject, tc.a); !errors.Is(err, ErrInvalidReference) {
			t.Errorf("%s: %v", name, err)
		}
	}
	big := artifact(1)
	big.Annotations["x"] = strings.Repeat("x", int(DefaultMaxManifest))
	if _, err := c.PutReferrer(t.Context(), f.repo(), good, big); !errors.Is(err, ErrTooLarge) {
		t.Errorf("annotations: %v", err)
	}
	if n := f.count(""); n != 0 {
		t.Errorf("%d requests", n)
	}
}
