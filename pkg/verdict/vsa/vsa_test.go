package vsa_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/sigstore/sigstore/pkg/signature"
	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/verdict/vsa"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fixture is a registry with one image in it.
type fixture struct {
	t      *testing.T
	client *registry.Client
	image  imageref.Ref
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	srv := httptest.NewServer(ggcr.New(ggcr.WithReferrersSupport(true), ggcr.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo))))
	t.Cleanup(srv.Close)
	f := &fixture{t: t, image: imageref.Ref{Registry: strings.TrimPrefix(srv.URL, "http://"), Repository: "team/app", Tag: "v1"}}
	img, err := random.Image(16, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(f.image.Registry+"/team/app:v1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	f.image = f.image.WithDigest(digest.String())
	f.client, err = registry.New(registry.Config{Registries: []registry.Host{{Host: f.image.Registry, Insecure: true}}, MaxAttempts: 1}, obs.Discard("test"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.client.Close)
	return f
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// summary is a predicate as the signer writes it.
func (f *fixture) summary(result string, age time.Duration, change func(map[string]any)) map[string]any {
	p := map[string]any{
		"verifier": map[string]any{"id": vsa.DefaultVerifierID}, "timeVerified": now.Add(-age),
		"resourceUri":        "pkg:oci/app@" + strings.ReplaceAll(f.image.Digest, ":", "%3A") + "?repository_url=" + strings.ReplaceAll(strings.ReplaceAll(f.image.Name(), ":", "%3A"), "/", "%2F"),
		"verificationResult": result,
		"https://seaworthy.dev/vsa/v1": map[string]any{
			"verdictDigest": "sha256:verdict", "policies": []any{map[string]any{"name": "baseline", "digest": "sha256:b"}},
		},
	}
	if change != nil {
		change(p)
	}
	return p
}

func (f *fixture) attach(k *ecdsa.PrivateKey, about, predicateType string, predicate map[string]any) {
	f.t.Helper()
	raw, err := json.Marshal(predicate)
	if err != nil {
		f.t.Fatal(err)
	}
	signer, err := signature.LoadSigner(k, crypto.SHA256)
	if err != nil {
		f.t.Fatal(err)
	}
	bundle, err := attest.Sign(f.t.Context(), signer, k.Public(), attest.Statement{
		Subject: []attest.Subject{{SHA256: strings.TrimPrefix(about, "sha256:")}}, PredicateType: predicateType, Predicate: raw,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	subject, err := f.client.Resolve(f.t.Context(), f.image)
	if err != nil {
		f.t.Fatal(err)
	}
	_, err = f.client.PutReferrer(f.t.Context(), f.image, subject, registry.Artifact{
		ArtifactType: attest.BundleMediaType, Content: bundle, Annotations: map[string]string{attest.AnnotationPredicateType: attest.PredicateVSA},
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	ours, theirs := newKey(t), newKey(t)
	other := "sha256:" + strings.Repeat("d", 64)
	for title, tc := range map[string]struct {
		attach func(f *fixture)
		change func(v *vsa.Verifier)
		want   error
		text   string
	}{
		"passed": {func(f *fixture) {
			f.attach(ours, f.image.Digest, attest.PredicateVSA, f.summary("PASSED", time.Hour, nil))
		}, nil, nil, ""},
		"nothing": {func(*fixture) {}, nil, vsa.ErrNone, ""},
		"failed": {func(f *fixture) {
			f.attach(ours, f.image.Digest, attest.PredicateVSA, f.summary("FAILED", time.Hour, nil))
		}, nil, vsa.ErrFailed, ""},
		"too old": {func(f *fixture) {
			f.attach(ours, f.image.Digest, attest.PredicateVSA, f.summary("PASSED", 25*time.Hour, nil))
		}, nil, vsa.ErrStale, "2026-02-28T11:00:00Z"},
		"of the future": {func(f *fixture) {
			f.attach(ours, f.image.Digest, attest.PredicateVSA, f.summary("PASSED", -time.Hour, nil))
		}, nil, vsa.ErrNone, ""},
		"the newest counts": {func(f *fixture) {
			f.attach(ours, f.image.Digest, attest.PredicateVSA, f.summary("FAILED", time.Hour, nil))
			f.attach(ours, f.image.Digest, attest.PredicateVSA, f.summary("PASSED", 2*time.Hour, nil))
		}, nil, vsa.ErrFailed, ""},
		"of one time the refusal counts": {func(f *fixture) {
			f.attach(ours, f.image.Digest, attest.PredicateVSA, f.summary("FAILED", time.Hour, nil))
			f.attach(ours, f.image.Digest, attest.PredicateVSA, f.summary("PASSED", time.Hour, nil))
		}, nil, vsa.ErrFailed, ""},
		"a stranger's does no harm": {func(f *fixture) {
			f.attach(theirs, f.image.Digest, attest.PredicateVSA, f.summary("FAILED", 0, nil))
			f.attach(ours, f.image.Digest, attest.PredicateVSA, f.summary("PASSED", time.Hour, nil))
		}, nil, nil, ""},
		"a stranger's":     {func(f *fixture) { f.attach(theirs, f.image.Digest, attest.PredicateVSA, f.summary("PASSED", 0, nil)) }, nil, vsa.ErrNone, "not signed with a trusted key"},
		"of another image": {func(f *fixture) { f.attach(ours, other, attest.PredicateVSA, f.summary("PASSED", 0, nil)) }, nil, vsa.ErrNone, "another subject"},
		"of another repository": {func(f *fixture) {
			f.attach(ours, f.image.Digest, attest.PredicateVSA, f.summary("PASSED", 0, func(p map[string]any) { p["resourceUri"] = "pkg:oci/app" }))
		}, nil, vsa.ErrNone, "it is about"},
		"of another verifier": {func(f *fixture) { f.attach(ours, f.image.Digest, attest.PredicateVSA, f.summary("PASSED", 0, nil)) }, func(v *vsa.Verifier) { v.VerifierID = "https://other.example" }, vsa.ErrNone, "of the verifier"},
		"of another type":     {func(f *fixture) { f.attach(ours, f.image.Digest, attest.PredicateSPDX, f.summary("PASSED", 0, nil)) }, nil, vsa.ErrNone, ""},
		"without a result":    {func(f *fixture) { f.attach(ours, f.image.Digest, attest.PredicateVSA, f.summary("", 0, nil)) }, nil, vsa.ErrNone, "its result"},
		"without a time": {func(f *fixture) {
			f.attach(ours, f.image.Digest, attest.PredicateVSA, f.summary("PASSED", 0, func(p map[string]any) { delete(p, "timeVerified") }))
		}, nil, vsa.ErrNone, "no time"},
		"policy":            {func(f *fixture) { f.attach(ours, f.image.Digest, attest.PredicateVSA, f.summary("PASSED", 0, nil)) }, func(v *vsa.Verifier) { v.Policies = []vsa.Policy{{"baseline", "sha256:b"}} }, nil, ""},
		"version of policy": {func(f *fixture) { f.attach(ours, f.image.Digest, attest.PredicateVSA, f.summary("PASSED", 0, nil)) }, func(v *vsa.Verifier) { v.Policies = []vsa.Policy{{"baseline", "sha256:c"}} }, vsa.ErrPolicies, "baseline"},
		"another policy":    {func(f *fixture) { f.attach(ours, f.image.Digest, attest.PredicateVSA, f.summary("PASSED", 0, nil)) }, func(v *vsa.Verifier) { v.Policies = []vsa.Policy{{Name: "strict"}} }, vsa.ErrPolicies, "strict"},
		"no age":            {func(*fixture) {}, func(v *vsa.Verifier) { v.MaxAge = 0 }, nil, "MaxAge is needed"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			tc.attach(f)
			v := &vsa.Verifier{
				Registry: f.client, MaxAge: 24 * time.Hour, Now: func() time.Time { return now },
				Roots: attest.TrustRoots{Keys: []attest.TrustedKey{{Key: ours.Public(), ID: "signer"}}},
			}
			if tc.change != nil {
				tc.change(v)
			}
			s, err := v.Verify(t.Context(), f.image)
			if tc.want == nil && tc.text == "" {
				if err != nil || !s.Passed || s.VerdictDigest != "sha256:verdict" || s.Signer != "signer" || len(s.Policies) != 1 || s.ManifestDigest == "" {
					t.Errorf("%+v, %v", s, err)
				}
				return
			}
			if err == nil || s.Passed || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
	f := newFixture(t)
	v := &vsa.Verifier{Registry: f.client, MaxAge: time.Hour}
	if _, err := v.Verify(t.Context(), f.image.WithDigest("")); err == nil || !strings.Contains(err.Error(), "by its digest") {
		t.Errorf("by tag: %v", err)
	}
	gone := f.image.WithDigest(other)
	gone.Registry = "elsewhere.example"
	if _, err := v.Verify(t.Context(), gone); err == nil {
		t.Error("a registry that is not allowed was asked")
	}
}
