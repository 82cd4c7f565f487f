// Package registrytest runs an OCI registry in the test's process, with faults on
// demand.
package registrytest

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
)

// Fault decides about a request before the registry sees it: the status to
// answer with, or 0 to let it pass.
type Fault func(*http.Request) int

// Registry is a registry of one test.
type Registry struct {
	// Host is host:port.
	Host  string
	tb    testing.TB
	fault atomic.Pointer[Fault]
	// confirms is set if it says that it lists referrers, whether it does or not.
	confirms atomic.Bool
}

// Start starts a registry, with or without the referrers API.
func Start(tb testing.TB, referrersAPI bool) *Registry {
	tb.Helper()
	r := &Registry{tb: tb}
	r.confirms.Store(referrersAPI)
	// Blobs on disk: a test may look at how much memory a writer takes.
	inner := ggcr.New(ggcr.WithReferrersSupport(referrersAPI), ggcr.WithBlobHandler(ggcr.NewDiskBlobHandler(tb.TempDir())),
		ggcr.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if f := r.fault.Load(); f != nil {
			if status := (*f)(req); status != 0 {
				w.WriteHeader(status)
				return
			}
		}
		if r.confirms.Load() {
			confirmSubject(w, req)
		}
		inner.ServeHTTP(w, req)
	}))
	tb.Cleanup(srv.Close)
	r.Host = strings.TrimPrefix(srv.URL, "http://")
	return r
}

// confirmSubject says what the registry in process does and does not say: that it
// lists the manifest with its subject.
func confirmSubject(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodPut || !strings.Contains(req.URL.Path, "/manifests/") {
		return
	}
	raw, err := io.ReadAll(req.Body)
	req.Body = io.NopCloser(bytes.NewReader(raw))
	var m struct {
		Subject struct {
			Digest string `json:"digest"`
		} `json:"subject"`
	}
	if err == nil && json.Unmarshal(raw, &m) == nil && m.Subject.Digest != "" {
		w.Header().Set("OCI-Subject", m.Subject.Digest)
	}
}

// Fail has f decide about every request; nil lets all pass.
func (r *Registry) Fail(f Fault) {
	if f == nil {
		r.fault.Store(nil)
		return
	}
	r.fault.Store(&f)
}

// ConfirmSubjects has the registry say that it lists referrers although it does not, as
// some do behind a proxy.
func (r *Registry) ConfirmSubjects() { r.confirms.Store(true) }

// Overwrite puts something below the referrers tag of an image, as anybody may who can
// push, and returns its digest.
func (r *Registry) Overwrite(ref imageref.Ref, mediaType, content string) string {
	r.tb.Helper()
	req, err := http.NewRequestWithContext(r.tb.Context(), http.MethodPut,
		"http://"+r.Host+"/v2/"+ref.Repository+"/manifests/"+registry.ReferrersTag(ref.Digest), strings.NewReader(content))
	if err != nil {
		r.tb.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.tb.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		r.tb.Fatalf("overwrite the referrers tag: %s", resp.Status)
	}
	return registry.Digest([]byte(content))
}

// Down answers every request with 503.
func Down(*http.Request) int { return http.StatusServiceUnavailable }

// DenyWrites answers every write with the status.
func DenyWrites(status int) Fault {
	return func(req *http.Request) int {
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			return status
		}
		return 0
	}
}

// RefuseManifests answers every write of a manifest as one that the registry will
// never take.
func RefuseManifests(req *http.Request) int {
	if req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/manifests/") {
		return http.StatusMethodNotAllowed
	}
	return 0
}

// Config is the configuration of a client of this registry that gives up soon.
func (r *Registry) Config() registry.Config {
	return registry.Config{
		Registries: []registry.Host{{Host: r.Host, Insecure: true}}, MaxAttempts: 2, Timeout: 5 * time.Second,
	}
}

// Client is a client of this registry.
func (r *Registry) Client() *registry.Client {
	r.tb.Helper()
	c, err := registry.New(r.Config(), obs.Discard("signer"))
	if err != nil {
		r.tb.Fatal(err)
	}
	r.tb.Cleanup(c.Close)
	return c
}

// PushImage pushes a random image and returns it by digest.
func (r *Registry) PushImage(repository string) imageref.Ref {
	r.tb.Helper()
	img, err := random.Image(64, 1)
	if err != nil {
		r.tb.Fatal(err)
	}
	ref, digest := r.target(repository, img)
	if err := remote.Write(ref, img); err != nil {
		r.tb.Fatal(err)
	}
	return imageref.Ref{Registry: r.Host, Repository: repository, Digest: digest}
}

// PushIndex pushes an index of n random images and returns it and its manifests.
func (r *Registry) PushIndex(repository string, n int) (imageref.Ref, []imageref.Ref) {
	r.tb.Helper()
	index := mutate.IndexMediaType(emptyIndex(r.tb), "application/vnd.oci.image.index.v1+json")
	var manifests []imageref.Ref
	for range n {
		img, err := random.Image(64, 1)
		if err != nil {
			r.tb.Fatal(err)
		}
		digest, err := img.Digest()
		if err != nil {
			r.tb.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img})
		manifests = append(manifests, imageref.Ref{Registry: r.Host, Repository: repository, Digest: digest.String()})
	}
	ref, digest := r.target(repository, index)
	if err := remote.WriteIndex(ref, index); err != nil {
		r.tb.Fatal(err)
	}
	return imageref.Ref{Registry: r.Host, Repository: repository, Digest: digest}, manifests
}

func emptyIndex(tb testing.TB) v1.ImageIndex {
	tb.Helper()
	empty, err := random.Index(1, 1, 0)
	if err != nil {
		tb.Fatal(err)
	}
	return empty
}

func (r *Registry) target(repository string, what interface{ Digest() (v1.Hash, error) }) (name.Reference, string) {
	r.tb.Helper()
	digest, err := what.Digest()
	if err != nil {
		r.tb.Fatal(err)
	}
	ref, err := name.NewDigest(r.Host+"/"+repository+"@"+digest.String(), name.Insecure)
	if err != nil {
		r.tb.Fatal(err)
	}
	return ref, digest.String()
}

// Delete deletes a manifest. What lists it is left as it is.
func (r *Registry) Delete(ref imageref.Ref, digest string) {
	r.tb.Helper()
	req, err := http.NewRequestWithContext(r.tb.Context(), http.MethodDelete,
		"http://"+r.Host+"/v2/"+ref.Repository+"/manifests/"+digest, http.NoBody)
	if err != nil {
		r.tb.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.tb.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		r.tb.Fatalf("delete %s: %s", digest, resp.Status)
	}
}

// Attestations reads and verifies all attestations of an image, in the order of
// the registry; one that is not of the key fails the test.
func (r *Registry) Attestations(ref imageref.Ref, roots attest.TrustRoots) []*attest.Verified {
	r.tb.Helper()
	found, err := attest.Fetch(r.tb.Context(), r.Client(), ref, attest.Limits{})
	if err != nil {
		r.tb.Fatal(err)
	}
	var out []*attest.Verified
	for _, f := range found {
		v, err := f.Verify(ref.Digest, roots)
		if err != nil {
			r.tb.Errorf("attestation %s: %v", f.Digest, err)
			continue
		}
		out = append(out, v)
	}
	return out
}
