package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

func artifact(n int) Artifact {
	return Artifact{
		ArtifactType: "application/vnd.example.evidence+json",
		Content:      fmt.Appendf(nil, `{"n":%d}`, n),
		Annotations:  map[string]string{"example.n": fmt.Sprint(n)},
	}
}

func digests(ds []Descriptor) []string {
	var out []string
	for _, d := range ds {
		out = append(out, d.Digest)
	}
	slices.Sort(out)
	return out
}

// withOCISubject makes the registry in process confirm subjects, which it
// understands but does not say.
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
			if list, err := c.Referrers(t.Context(), ref); err != nil || len(list) != 0 {
				t.Fatalf("before: %v, %v", list, err)
			}
			want, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1))
			if err != nil {
				t.Fatal(err)
			}
			if again, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1)); err != nil || !cmp.Equal(want, again) {
				t.Fatalf("again: %v, %v", again, err)
			}
			got, err := c.Referrers(t.Context(), ref)
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
			index, err := c.readReferrersTag(t.Context(), ref)
			if err != nil || (len(index.entries) == 1) != tc.tag || len(index.entries) > 1 {
				t.Errorf("referrers tag: %v, %v", index, err)
			}
			checkManifest(t, c, f.repo().WithDigest(want.Digest), subject)
		})
	}
}

// checkManifest compares with the form of the image specification's example of
// an artifact with a subject.
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

func TestConcurrentWritersLoseNothing(t *testing.T) {
	for _, processes := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d processes", processes), func(t *testing.T) {
			f := newFixture(t, false)
			clients := []*Client{f.client(t)}
			for len(clients) < processes {
				clients = append(clients, f.client(t))
			}
			subject := f.push(t, clients[0], "v1")
			const writers = 20
			var wg sync.WaitGroup
			var mu sync.Mutex
			var want []string
			for i := range writers {
				wg.Go(func() {
					d, err := clients[i%processes].PutReferrer(t.Context(), f.repo(), subject, artifact(i))
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					want = append(want, d.Digest)
				})
			}
			wg.Wait()
			slices.Sort(want)
			got, err := clients[0].Referrers(t.Context(), f.repo().WithDigest(subject.Digest))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, digests(got)); diff != "" || len(got) != writers {
				t.Errorf("referrers (-want +got)\n%s", diff)
			}
		})
	}
}

func TestLostEntriesAreRepaired(t *testing.T) {
	f := newFixture(t, false)
	c := f.client(t)
	subject := f.push(t, c, "v1")
	ref := f.repo().WithDigest(subject.Digest)
	tgt, err := c.target("test", ref)
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1))
	if err != nil {
		t.Fatal(err)
	}
	// Another writer overwrites the tag without having seen our entry, and does it
	// once more between our next write and the second look at it.
	overwrite := func() {
		if _, err := c.putManifest(t.Context(), tgt, ReferrersTag(subject.Digest), MediaTypeOCIIndex,
			[]byte(`{"schemaVersion":2,"mediaType":"`+MediaTypeOCIIndex+`","manifests":[],"annotations":{"kept":"yes"}}`)); err != nil {
			t.Error(err)
		}
	}
	overwrite()
	once := sync.OnceFunc(overwrite)
	c.sleep = func(ctx context.Context, _ time.Duration) error { once(); return ctx.Err() }
	second, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(2))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Referrers(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(digests([]Descriptor{first, second}), digests(got)); diff != "" {
		t.Errorf("referrers (-want +got)\n%s", diff)
	}
	index, err := c.readReferrersTag(t.Context(), ref)
	if err != nil || string(index.annotations) != `{"kept":"yes"}` {
		t.Errorf("what others wrote is lost: %s, %v", index.annotations, err)
	}
}

func TestDanglingEntriesDoNotBlock(t *testing.T) {
	f := newFixture(t, false)
	c := f.client(t)
	subject := f.push(t, c, "v1")
	gone, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1))
	if err != nil {
		t.Fatal(err)
	}
	del, err := http.NewRequest(http.MethodDelete, "http://"+f.host+"/v2/team/app/manifests/"+gone.Digest, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(del)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	want, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(2))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Referrers(t.Context(), f.repo().WithDigest(subject.Digest))
	if diff := cmp.Diff(digests([]Descriptor{want}), digests(got)); diff != "" || err != nil {
		t.Errorf("referrers: %v (-want +got)\n%s", err, diff)
	}
}

func TestForeignTagIsNotOverwritten(t *testing.T) {
	f := newFixture(t, false)
	c := f.client(t)
	subject := f.push(t, c, "v1")
	f.push(t, c, ReferrersTag(subject.Digest)) // an image sits where the list should be
	if _, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("put: %v", err)
	}
	if _, err := c.Referrers(t.Context(), f.repo().WithDigest(subject.Digest)); !errors.Is(err, ErrMalformed) {
		t.Errorf("list: %v", err)
	}
}

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

func TestMemoryIsBounded(t *testing.T) {
	m := newMemory()
	for i := range maxRememberedSubjects + 10 {
		m.add(fmt.Sprint(i), listed(i))
	}
	if len(m.lists) > maxRememberedSubjects {
		t.Errorf("%d subjects", len(m.lists))
	}
	for i := range maxRememberedReferrers + 10 {
		m.add("one", listed(i))
		m.add("one", listed(i))
	}
	if n := len(m.of("one")); n != maxRememberedReferrers {
		t.Errorf("%d referrers", n)
	}
}

func TestKeyedLockEndsWithItsContext(t *testing.T) {
	k := newKeyedLock()
	unlock, err := k.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.lock(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	unlock()
	if len(k.locks) != 0 {
		t.Errorf("%d locks are kept", len(k.locks))
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
