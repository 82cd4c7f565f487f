package evidence

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
)

// hostile is a registry that serves one image and whatever a test says is attached.
type hostile struct {
	image     imageref.Ref
	client    *registry.Client
	manifests map[string][]byte
	// contents are blobs that are there, by digest.
	contents  map[string][]byte
	referrers []registry.Descriptor
	// bySubject has each manifest list its own referrers only.
	bySubject bool
	// blob is the size of every blob, and sent what was read of them.
	blob atomic.Int64
	sent atomic.Int64
	// asked counts manifests that were asked for.
	asked atomic.Int64
}

func newHostile(t *testing.T) *hostile {
	t.Helper()
	h := &hostile{manifests: map[string][]byte{}, contents: map[string][]byte{}}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	h.image = imageref.Ref{Registry: host, Repository: "team/app"}.WithDigest(h.add(map[string]any{
		"schemaVersion": 2, "mediaType": registry.MediaTypeOCIManifest,
	}))
	var err error
	h.client, err = registry.New(registry.Config{Registries: []registry.Host{{Host: host, Insecure: true}}, MaxAttempts: 1}, obs.Discard("test"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.client.Close)
	return h
}

func (h *hostile) add(manifest map[string]any) string {
	raw, _ := json.Marshal(manifest)
	sum := sha256.Sum256(raw)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	h.manifests[digest] = raw
	return digest
}

// attach attaches a bundle of a size that nobody has to keep to.
func (h *hostile) attach(n int, size int64) {
	h.attachBlob(fmt.Sprintf("sha256:%064x", n), size)
}

// attachBundle attaches a bundle that can be read, and returns the digest of its manifest.
func (h *hostile) attachBundle(bundle []byte) string {
	sum := sha256.Sum256(bundle)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	h.contents[digest] = bundle
	return h.attachBlob(digest, int64(len(bundle)))
}

func (h *hostile) attachBlob(blob string, size int64) string {
	manifest := map[string]any{
		"schemaVersion": 2, "mediaType": registry.MediaTypeOCIManifest, "artifactType": attest.BundleMediaType,
		"subject": map[string]any{"mediaType": registry.MediaTypeOCIManifest, "digest": h.image.Digest, "size": len(h.manifests[h.image.Digest])},
		"layers":  []any{map[string]any{"mediaType": attest.BundleMediaType, "digest": blob, "size": size}},
	}
	digest := h.add(manifest)
	h.referrers = append(h.referrers, registry.Descriptor{
		MediaType: registry.MediaTypeOCIManifest, Digest: digest, Size: int64(len(h.manifests[digest])), ArtifactType: attest.BundleMediaType,
	})
	return digest
}

func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, what, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/team/app"), "/")
	kind, digest, _ := strings.Cut(what, "/")
	switch {
	case r.URL.Path == "/v2/":
	case kind == "referrers":
		w.Header().Set("Content-Type", registry.MediaTypeOCIIndex)
		_ = json.NewEncoder(w).Encode(map[string]any{"schemaVersion": 2, "mediaType": registry.MediaTypeOCIIndex, "manifests": h.listed(digest)})
	case kind == "manifests" && h.manifests[digest] != nil:
		h.asked.Add(1)
		var m struct{ MediaType string }
		_ = json.Unmarshal(h.manifests[digest], &m)
		w.Header().Set("Content-Type", m.MediaType)
		w.Header().Set("Docker-Content-Digest", digest)
		_, _ = io.Copy(w, bytes.NewReader(h.manifests[digest]))
	case kind == "blobs" && h.contents[digest] != nil:
		_, _ = io.Copy(w, bytes.NewReader(h.contents[digest]))
	case kind == "blobs":
		chunk := bytes.Repeat([]byte(" "), 64<<10)
		for left := h.blob.Load(); left > 0; left -= int64(len(chunk)) {
			n, err := w.Write(chunk)
			h.sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// listed are the referrers of a manifest.
func (h *hostile) listed(digest string) []registry.Descriptor {
	if !h.bySubject {
		return h.referrers
	}
	return slices.DeleteFunc(slices.Clone(h.referrers), func(d registry.Descriptor) bool {
		return !bytes.Contains(h.manifests[d.Digest], []byte(digest))
	})
}

func (h *hostile) collect(t *testing.T, limits Limits) Evidence {
	t.Helper()
	c := NewCollector(h.client, trusting(evidencetest.NewKey(t)), nil, limits, slog.New(slog.DiscardHandler), func() time.Time { return evidencetest.Now })
	found, err := c.Collect(t.Context(), h.image)
	if err != nil {
		t.Fatal(err)
	}
	if p := found.Platforms[0]; p.Report != nil || len(p.Attestations) != 0 || len(p.Rejected) == 0 {
		t.Errorf("evidence: %+v", p)
	}
	return found
}

// TestTenThousandReferrers attaches more than anybody would: none is fetched, and
// nothing is evidence.
func TestTenThousandReferrers(t *testing.T) {
	h := newHostile(t)
	for n := range 10_000 {
		h.attach(n, 100)
	}
	start := time.Now()
	found := h.collect(t, Limits{MaxAttestations: 1000})
	if why := found.Platforms[0].Rejected[0].Why; !strings.Contains(why, "10000 referrers") && !strings.Contains(why, "too large") {
		t.Errorf("reason: %s", why)
	}
	if h.asked.Load() > 1 || h.sent.Load() > 0 {
		t.Errorf("%d manifests asked for, %d bytes of blobs sent in %s", h.asked.Load(), h.sent.Load(), time.Since(start))
	}
}

// index makes the image an index of platforms that each have a report and garbage, and
// returns the reports.
func (h *hostile) index(t *testing.T, key *evidencetest.Key, platforms, garbage int) Owed {
	t.Helper()
	owed := Owed{}
	var index []any
	for i := range platforms {
		h.image.Digest = h.add(map[string]any{"schemaVersion": 2, "mediaType": registry.MediaTypeOCIManifest, "annotations": map[string]string{"n": fmt.Sprint(i)}})
		index = append(index, map[string]any{
			"mediaType": registry.MediaTypeOCIManifest, "digest": h.image.Digest, "size": len(h.manifests[h.image.Digest]),
			"platform": map[string]string{"os": "linux", "architecture": fmt.Sprintf("a%d", i)},
		})
		for n := range garbage {
			h.attach(i*garbage+n, 0)
		}
		owed[h.image.Digest] = []string{h.attachBundle(key.Sign(h.image.Digest, attest.PredicateCosignVuln,
			evidencetest.Predicate(t, evidencetest.Report(h.image.Digest), evidencetest.Now)))}
	}
	h.image.Digest = h.add(map[string]any{"schemaVersion": 2, "mediaType": registry.MediaTypeOCIIndex, "manifests": index})
	h.bySubject = true
	return owed
}

// TestForeignReferrersHideNothing floods an image with more referrers than are read: what
// an event or an earlier verdict names is read all the same. Without that the list is
// incomplete, and evidence that is owed is invalid, not absent.
func TestForeignReferrersHideNothing(t *testing.T) {
	h := newHostile(t)
	key := evidencetest.NewKey(t)
	for n := range 1001 {
		h.attach(n, 100)
	}
	ours := h.attachBundle(key.Sign(h.image.Digest, attest.PredicateCosignVuln, evidencetest.Predicate(t, evidencetest.Report(h.image.Digest), evidencetest.Now)))
	h.referrers = append(h.referrers, registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: "sha256:" + strings.Repeat("c", 64)})
	c := NewCollector(h.client, trusting(key), nil, Limits{MaxAttestations: registry.DefaultMaxReferrers}, slog.New(slog.DiscardHandler), func() time.Time { return evidencetest.Now })
	always := core.Policy{Name: "p", Matches: func(string) bool { return true }}
	for name, tc := range map[string]struct {
		owed Owed
		want core.State
	}{
		"named":                     {Owed{h.image.Digest: {ours}}, core.StatePass},
		"named among others":        {Owed{h.image.Digest: {"sha256:" + strings.Repeat("e", 64), ours}}, core.StatePass},
		"not named":                 {nil, core.StateUnknown},
		"named of another image":    {Owed{"sha256:" + strings.Repeat("d", 64): {ours}}, core.StateUnknown},
		"named and not in the list": {Owed{h.image.Digest: {"sha256:" + strings.Repeat("e", 64)}}, core.StateUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			h.asked.Store(0)
			found, err := c.CollectOwed(t.Context(), h.image, tc.owed)
			if err != nil {
				t.Fatal(err)
			}
			if asked := h.asked.Load(); asked > 3 {
				t.Errorf("%d manifests were asked for", asked)
			}
			v, err := core.Judge(t.Context(), core.Input{Image: h.image, Platforms: found.Platforms, Policies: []core.Policy{always}, Now: evidencetest.Now})
			if err != nil {
				t.Fatal(err)
			}
			if v.State != tc.want {
				t.Errorf("the verdict is %v: %v", v.State, v.Reasons)
			}
			if v.State == core.StateUnknown && v.Reasons[0].Code != core.CodeEvidenceInvalid {
				t.Errorf("reasons %v", v.Reasons)
			}
		})
	}
}

// TestManyPlatformsWithGarbage: what is read of one image is bounded, however many
// platforms its index has, and evidence that is known is read of each.
func TestManyPlatformsWithGarbage(t *testing.T) {
	h := newHostile(t)
	key := evidencetest.NewKey(t)
	const garbage, platforms, most = 90, 16, 100
	owed := h.index(t, key, platforms, garbage)
	c := NewCollector(h.client, trusting(key), nil, Limits{MaxAttestations: most}, slog.New(slog.DiscardHandler), func() time.Time { return evidencetest.Now })
	found, err := c.CollectOwed(t.Context(), h.image, owed)
	if err != nil {
		t.Fatal(err)
	}
	if asked := h.asked.Load(); asked > most*manifestsPerImage+platforms+1 {
		t.Errorf("%d manifests were asked for", asked)
	}
	cut := 0
	for _, p := range found.Platforms {
		if p.Report == nil {
			t.Errorf("%s has no report: %+v", p.Platform, p.Rejected)
		}
		if last := p.Rejected[len(p.Rejected)-1]; strings.Contains(fmt.Sprint(p.Rejected), attest.ErrIncomplete.Error()) && last.Why != "" {
			cut++
		}
	}
	if want := platforms - most*manifestsPerImage/(garbage+1); cut != want {
		t.Errorf("%d platforms are incomplete, want %d", cut, want)
	}
}

// TestTimePerImage: a slow registry holds up one image for a bounded time. What is known
// to be attached is read all the same; the other platforms are incomplete.
func TestTimePerImage(t *testing.T) {
	h := newHostile(t)
	key := evidencetest.NewKey(t)
	const garbage, platforms = 50, 16
	owed := h.index(t, key, platforms, garbage)
	// Each manifest takes a second.
	now := func() time.Time { return evidencetest.Now.Add(time.Duration(h.asked.Load()) * time.Second) }
	c := NewCollector(h.client, trusting(key), nil, Limits{}, slog.New(slog.DiscardHandler), now)
	found, err := c.CollectOwed(t.Context(), h.image, owed)
	if err != nil {
		t.Fatal(err)
	}
	if asked := h.asked.Load(); asked > int64(timePerImage/time.Second)+2+platforms {
		t.Errorf("%d manifests were asked for, one a second", asked)
	}
	unread := 0
	for _, p := range found.Platforms {
		if p.Report == nil {
			t.Errorf("%s has no report: %+v", p.Platform, p.Rejected)
		}
		if p.Unread != "" {
			unread++
		}
	}
	if want := platforms - int(timePerImage/time.Second)/(garbage+1); unread != want {
		t.Errorf("%d platforms are incomplete, want %d", unread, want)
	}
}

// TestHugeAttestation attaches one of 2 GiB, once saying so and once not: it is never
// held.
func TestHugeAttestation(t *testing.T) {
	const huge = 2 << 30
	for name, declared := range map[string]int64{"honest": huge, "lying": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t)
			h.attach(1, declared)
			h.blob.Store(huge)
			var peak atomic.Uint64
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				for {
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					peak.Store(max(peak.Load(), m.HeapInuse))
					select {
					case <-stop:
						return
					case <-time.After(5 * time.Millisecond):
					}
				}
			})
			h.collect(t, Limits{MaxAttestation: 64 << 20})
			close(stop)
			wg.Wait()
			// What the kernel holds between the two counts as sent too.
			if sent := h.sent.Load(); sent > 16<<20 || peak.Load() > 256<<20 {
				t.Errorf("%d MiB were read, the heap had %d MiB", sent>>20, peak.Load()>>20)
			}
		})
	}
}

// TestKeylessEvidence attaches provenance by a CI's identity, as it is trusted and as
// it is not.
func TestKeylessEvidence(t *testing.T) {
	t.Parallel()
	const issuer, workflow = "https://ci.example", "https://ci.example/team/app/build.yml@refs/heads/main"
	sigstore, strangers := evidencetest.NewSigstore(t), evidencetest.NewSigstore(t)
	root, err := attest.ParseSigstoreRoot(sigstore.Root())
	if err != nil {
		t.Fatal(err)
	}
	trusted := &keyless{attest.TrustRoots{
		Identities: []attest.TrustedIdentity{{ID: "ci", Issuer: issuer, Subject: workflow}}, Sigstore: root,
	}}
	soon, late := time.Now().Add(2*time.Minute), time.Now().Add(30*time.Minute)
	for name, tc := range map[string]struct {
		sigstore        *evidencetest.Sigstore
		subject, issuer string
		logged          time.Time
		// why it is no evidence; empty if it is.
		why string
	}{
		"the workflow":              {sigstore, workflow, issuer, soon, ""},
		"another workflow":          {sigstore, workflow + "x", issuer, soon, "not signed by a trusted identity"},
		"another issuer":            {sigstore, workflow, "https://other.example", soon, "not signed by a trusted identity"},
		"another authority":         {strangers, workflow, issuer, soon, "not signed by a trusted identity"},
		"after the certificate was": {sigstore, workflow, issuer, late, "was not valid when it was signed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := evidencetest.NewRegistry(t)
			image := reg.PushImage("team/app", "v1")
			bundle := tc.sigstore.Sign(tc.subject, tc.issuer, image.Digest, attest.PredicateSLSAProvenance, map[string]any{"runDetails": map[string]any{}}, tc.logged)
			reg.Attach(image, image.Digest, attest.PredicateSLSAProvenance, bundle)
			// Long after the certificate has ended: what counts is when it was signed.
			now := time.Now().Add(1000 * time.Hour)
			c := NewCollector(reg.Client(), trusted, nil, Limits{Cache: 1 << 20}, slog.New(slog.DiscardHandler), func() time.Time { return now })
			for range 2 { // the second time out of the cache
				found, err := c.Collect(t.Context(), image)
				if err != nil {
					t.Fatal(err)
				}
				p := found.Platforms[0]
				switch {
				case tc.why != "":
					if len(p.Attestations) != 0 || len(p.Rejected) != 1 || !strings.Contains(p.Rejected[0].Why, tc.why) {
						t.Errorf("%+v, %+v", p.Attestations, p.Rejected)
					}
				case len(p.Attestations) != 1 || p.Attestations[0].Identity != workflow || p.Attestations[0].Issuer != issuer || p.Attestations[0].KeyID != "ci":
					t.Errorf("%+v, %+v", p.Attestations, p.Rejected)
				}
			}
		})
	}
}

// keyless are trust roots without keys.
type keyless struct{ attest.TrustRoots }

func (k *keyless) Roots() (attest.TrustRoots, uint64, error) { return k.TrustRoots, 1, nil }

func (k *keyless) Refresh(context.Context) bool { return false }

// TestLargeEvidenceTakesTurns reads an image whose attestations take more than usual:
// it waits until no other one is at it.
func TestLargeEvidenceTakesTurns(t *testing.T) {
	t.Parallel()
	key := evidencetest.NewKey(t)
	reg := evidencetest.NewRegistry(t)
	image := reg.PushImage("team/app", "v1")
	reg.Attest(key, image, image.Digest, evidencetest.Report(image.Digest), evidencetest.Now)
	c := collector(reg, trusting(key), Limits{})
	c.usual = 500
	c.large <- struct{}{}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.Collect(ctx, image); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("did not wait: %v", err)
	}
	<-c.large
	for range 2 {
		found, err := c.Collect(t.Context(), image)
		if err != nil || found.Platforms[0].Report == nil {
			t.Errorf("%+v, %v", found, err)
		}
	}
	if len(c.large) != 0 {
		t.Error("the turn was not given back")
	}
	// What is larger than may be read at all is not waited for.
	reg.AttachLarge(key, image, attest.PredicateCycloneDX, 3<<10)
	c.limits.MaxAttestation, c.usual = 4<<10, 3<<10
	c.large <- struct{}{}
	if found, err := c.Collect(t.Context(), image); err != nil || found.Platforms[0].Report == nil || len(found.Platforms[0].Rejected) != 1 {
		t.Errorf("waits for what is too large anyhow: %+v, %v", found, err)
	}
	<-c.large
	c.limits.MaxAttestation = 0
	c.usual = usualTotal
	c.large <- struct{}{}
	if found, err := c.Collect(t.Context(), image); err != nil || found.Platforms[0].Report == nil {
		t.Errorf("a usual image waits: %+v, %v", found, err)
	}
}
