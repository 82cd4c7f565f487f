package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func layer(kind string, n int) Layer {
	return Layer{MediaType: "application/vnd.dsse.envelope.v1+json", Content: fmt.Appendf(nil, `{"%s":%d}`, kind, n), Annotations: map[string]string{"kind": kind}}
}

func ofKind(kind string) func(map[string]string) bool {
	return func(a map[string]string) bool { return a["kind"] == kind }
}

// layers are the contents below the legacy tag, in order.
func (f *fixture) layers(t *testing.T, c *Client, subject Descriptor) []string {
	t.Helper()
	ref := f.repo()
	ref.Tag = ReferrersTag(subject.Digest) + ".att"
	_, raw, err := c.Manifest(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Config Descriptor   `json:"config"`
		Layers []Descriptor `json:"layers"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ReadBlob(t.Context(), f.repo(), m.Config, 1<<20); err != nil || m.Config.MediaType != MediaTypeOCIConfig {
		t.Errorf("configuration %+v: %v", m.Config, err)
	}
	var out []string
	for _, l := range m.Layers {
		content, err := c.ReadBlob(t.Context(), f.repo(), l, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(content))
	}
	return out
}

func TestPutTaggedLayer(t *testing.T) {
	f := newFixture(t, false)
	c := f.client(t)
	subject := f.push(t, c, "v1")
	ref := f.repo().WithDigest(subject.Digest)
	put := func(kind string, n int) {
		t.Helper()
		if err := c.PutTaggedLayer(t.Context(), ref, ".att", layer(kind, n), ofKind(kind)); err != nil {
			t.Fatal(err)
		}
	}
	put("a", 1)
	put("b", 1)
	put("a", 2)
	before := f.count("PUT /v2/team/app/manifests/sha256-")
	put("a", 2)
	if n := f.count("PUT /v2/team/app/manifests/sha256-"); n != before {
		t.Error("the same layer was written again")
	}
	if diff := cmp.Diff([]string{`{"b":1}`, `{"a":2}`}, f.layers(t, c, subject)); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
}

func TestPutTaggedLayer_ManyWriters(t *testing.T) {
	f := newFixture(t, false)
	c := f.client(t)
	subject := f.push(t, c, "v1")
	e := &withETags{}
	f.intercept(e.serve)
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			kind := fmt.Sprintf("k%02d", n)
			if err := c.PutTaggedLayer(t.Context(), f.repo().WithDigest(subject.Digest), ".att", layer(kind, n), ofKind(kind)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(f.layers(t, c, subject)); n != 20 {
		t.Errorf("%d layers, want 20", n)
	}
}

func TestPutTaggedLayer_Refuses(t *testing.T) {
	f := newFixture(t, false)
	c := f.client(t, func(cfg *Config) { cfg.MaxReferrers = 2 })
	subject := f.push(t, c, "v1")
	ref := f.repo().WithDigest(subject.Digest)
	put := func(n int) error {
		return c.PutTaggedLayer(t.Context(), ref, ".att", layer(fmt.Sprint(n), n), func(map[string]string) bool { return false })
	}
	for n := range 2 {
		if err := put(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(2); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{`{"1":1}`, `{"2":2}`}, f.layers(t, c, subject)); diff != "" {
		t.Errorf("a third layer of two (-want +got):\n%s", diff)
	}
	if err := c.PutTaggedLayer(t.Context(), f.repo(), ".att", layer("x", 1), ofKind("x")); !errors.Is(err, ErrInvalidReference) {
		t.Errorf("without a digest: %v", err)
	}
	f.intercept(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		registryError(w, http.StatusForbidden, "DENIED", "no")
	})
	if err := put(1); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("no rights: %v", err)
	}
}

func FuzzLegacyReplace(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"layers":[{"mediaType":"a","digest":"sha256:00","size":1,"annotations":{"kind":"a"}}]}`))
	f.Add([]byte(`{"layers":[null,{},[]],"annotations":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m legacyManifest
		if json.Unmarshal(raw, &m) != nil {
			return
		}
		before := len(m.Layers)
		changed, err := m.replace(layer("a", 1), ofKind("a"))
		if err != nil {
			return
		}
		if len(m.Layers) > before+1 || changed && len(m.Layers) == 0 {
			t.Errorf("%d layers became %d", before, len(m.Layers))
		}
		if again, err := m.replace(layer("a", 1), ofKind("a")); err != nil || again {
			t.Errorf("the same layer changes it again: %v, %v", again, err)
		}
	})
}
