package attest

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// withImage starts a registry with one image in it.
func withImage(t *testing.T, referrers bool) (c *registry.Client, ref imageref.Ref, subject registry.Descriptor, broken *atomic.Value) {
	t.Helper()
	broken = new(atomic.Value)
	broken.Store("")
	next := ggcr.New(ggcr.WithReferrersSupport(referrers), ggcr.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if part := broken.Load().(string); part != "" && strings.Contains(r.URL.Path, part) {
			io.WriteString(w, "garbage")
			return
		}
		next.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "http://")
	tag, err := name.NewTag(host+"/team/app:v1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	image, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	if err := remote.Write(tag, image, remote.WithTransport(transport)); err != nil {
		t.Fatal(err)
	}
	c, err = registry.New(registry.Config{Registries: []registry.Host{{Host: host, Insecure: true}}}, obs.Discard("test"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ref = imageref.Ref{Registry: host, Repository: "team/app", Tag: "v1"}
	subject, err = c.Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return c, ref.WithDigest(subject.Digest), subject, broken
}

func statementAbout(digest, predicateType string) Statement {
	st := testStatement()
	st.Subject[0].SHA256 = strings.TrimPrefix(digest, "sha256:")
	st.PredicateType = predicateType
	return st
}

var created = time.Date(2026, 3, 4, 5, 6, 7, 890, time.FixedZone("", 3600))

func TestAttachThenFetch(t *testing.T) {
	for name, api := range map[string]bool{"API": true, "tag": false} {
		t.Run(name, func(t *testing.T) {
			c, ref, subject, _ := withImage(t, api)
			k := newKey(t, "p256")
			bundle := k.sign(t, statementAbout(subject.Digest, PredicateCosignVuln))
			d, err := Attach(t.Context(), c, ref, subject, bundle, PredicateCosignVuln, created)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := Attach(t.Context(), c, ref, subject, bundle, PredicateCosignVuln, created); err != nil || again.Digest != d.Digest {
				t.Fatalf("again: %v, %v", again, err)
			}
			// Somebody else's referrer is none of ours.
			if _, err := c.PutReferrer(t.Context(), ref, subject, registry.Artifact{ArtifactType: "application/spdx+json", Content: []byte("{}")}); err != nil {
				t.Fatal(err)
			}
			got, err := Fetch(t.Context(), c, ref, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			want := []Referred{{
				Descriptor: registry.Descriptor{
					MediaType: registry.MediaTypeOCIManifest, ArtifactType: BundleMediaType, Digest: d.Digest, Size: d.Size,
					Annotations: map[string]string{
						"dev.sigstore.bundle.content":       "dsse-envelope",
						"dev.sigstore.bundle.predicateType": PredicateCosignVuln,
						"org.opencontainers.image.created":  "2026-03-04T04:06:07Z",
					},
				},
				Bundle: bundle, BundleSize: int64(len(bundle)),
			}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("(-want +got)\n%s", diff)
			}
			v, err := got[0].Verify(subject.Digest, k.trusted())
			if err != nil {
				t.Fatal(err)
			}
			if v.ManifestDigest != d.Digest || !v.CreateTime.Equal(created.Truncate(time.Second)) || v.KeyID != KeyID(k.pub) {
				t.Errorf("%+v", v)
			}
		})
	}
}

func TestAttachRefusesWhatDoesNotFit(t *testing.T) {
	c, ref, subject, _ := withImage(t, false)
	k := newKey(t, "p256")
	bundle := k.sign(t, statementAbout(subject.Digest, PredicateSPDX))
	if _, err := Attach(t.Context(), c, ref, subject, bundle, PredicateVSA, created); !errors.Is(err, ErrMalformed) {
		t.Errorf("predicate type: %v", err)
	}
	if _, err := Attach(t.Context(), c, ref, subject, k.sign(t, testStatement()), PredicateVulnsV02, created); !errors.Is(err, ErrWrongSubject) {
		t.Errorf("subject: %v", err)
	}
	if got, err := Fetch(t.Context(), c, ref, Limits{}); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestFetchIsBounded(t *testing.T) {
	c, ref, subject, _ := withImage(t, false)
	k := newKey(t, "p256")
	var size int64
	for _, p := range []string{PredicateSPDX, PredicateCosignVuln, PredicateVSA} {
		bundle := k.sign(t, statementAbout(subject.Digest, p))
		size = max(size, int64(len(bundle)))
		if _, err := Attach(t.Context(), c, ref, subject, bundle, p, created); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Fetch(t.Context(), c, ref, Limits{MaxReferrers: 2}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("count: %v", err)
	}
	got, err := Fetch(t.Context(), c, ref, Limits{MaxBundle: 10})
	if err != nil || len(got) != 3 {
		t.Fatalf("%v, %v", got, err)
	}
	for _, r := range got {
		if !errors.Is(r.Err, ErrTooLarge) || r.Bundle != nil {
			t.Errorf("bundle size: %v", r.Err)
		}
		if _, err := r.Verify(subject.Digest, k.trusted()); !errors.Is(err, ErrTooLarge) {
			t.Errorf("verify: %v", err)
		}
	}
	got, err = Fetch(t.Context(), c, ref, Limits{MaxTotal: size + 10})
	if err != nil || len(got) != 3 || got[0].Err != nil || !errors.Is(got[1].Err, ErrTooLarge) {
		t.Errorf("total size: %v, %v", got, err)
	}
	got, err = Fetch(t.Context(), c, ref, Limits{PredicateTypes: []string{PredicateVSA}})
	if err != nil || len(got) != 1 || got[0].Annotations[AnnotationPredicateType] != PredicateVSA {
		t.Errorf("by type: %v, %v", got, err)
	}
}

func TestFetchTellsWhatIsBroken(t *testing.T) {
	c, ref, subject, broken := withImage(t, false)
	k := newKey(t, "p256")
	bundle := k.sign(t, statementAbout(subject.Digest, PredicateVSA))
	if _, err := Attach(t.Context(), c, ref, subject, bundle, PredicateVSA, created); err != nil {
		t.Fatal(err)
	}
	broken.Store(registry.Digest(bundle))
	got, err := Fetch(t.Context(), c, ref, Limits{})
	if err != nil || len(got) != 1 || !errors.Is(got[0].Err, registry.ErrDigestMismatch) || got[0].Bundle != nil {
		t.Errorf("%v, %v", got, err)
	}
	broken.Store("/manifests/sha256-")
	if _, err := Fetch(t.Context(), c, ref, Limits{}); !errors.Is(err, registry.ErrMalformed) {
		t.Errorf("list: %v", err)
	}
}

// A bundle of one image that is listed under another must not count there.
func TestFetchRefusesListsThatLie(t *testing.T) {
	c, ref, subject, _ := withImage(t, false)
	k := newKey(t, "p256")
	other := registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: registry.Digest([]byte("other")), Size: 5}
	bundle := k.sign(t, statementAbout(other.Digest, PredicateVSA))
	d, err := Attach(t.Context(), c, ref, other, bundle, PredicateVSA, created)
	if err != nil {
		t.Fatal(err)
	}
	r, isBundle := fetchOne(t.Context(), c, ref, d, MaxBundle)
	if !isBundle || !errors.Is(r.Err, ErrWrongSubject) || r.Bundle != nil {
		t.Errorf("%v, %v", r, subject)
	}
}
