package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/tests/internal/distribution"
	"github.com/seaworthy-dev/seaworthy/tests/internal/images"
)

const reviewType = "https://example.com/review/v1"

// TestInterop_BothRefuse attaches bundles that are wrong in one way each: cosign and
// our verification refuse the same ones.
func TestInterop_BothRefuse(t *testing.T) {
	c := newCosign(t, emptyRoot)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signature.LoadDefaultSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := cryptoutils.MarshalPublicKeyToPEM(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	key := write(t, c.home, "key.pub", pem)
	host := distribution.Start(t)
	client, err := registry.New(registry.Config{Registries: []registry.Host{{Host: host, Insecure: true}}}, obs.Discard("test"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	const elsewhere = "sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
	tests := []struct {
		name    string
		subject string // empty: the image
		change  func(t *testing.T, bundle map[string]any)
		want    error // nil: it is good
		// onlyWe is set for what the bundle's specification has readers accept and
		// cosign v3 does not: bundles of the versions before its own.
		onlyWe bool
	}{
		{name: "as it was signed"},
		{name: "bundle v0.2", change: mediaType("application/vnd.dev.sigstore.bundle+json;version=0.2"), onlyWe: true},
		{name: "bundle v0.1", change: mediaType("application/vnd.dev.sigstore.bundle+json;version=0.1"), onlyWe: true},
		{name: "bundle of a version to come", change: mediaType("application/vnd.dev.sigstore.bundle+json;version=9.9"), want: attest.ErrMalformed},
		{name: "another subject", subject: elsewhere, want: attest.ErrWrongSubject},
		{name: "changed payload", change: changePayload, want: attest.ErrBadSignature},
		{name: "two signatures", change: twoSignatures, want: attest.ErrMalformed},
		{name: "no signature", change: noSignature, want: attest.ErrMalformed},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			digest := images.Push(t, images.Clean(t, tt.name), host+"/refuse/app:"+string(rune('a'+i)))
			image := imageref.Ref{Registry: host, Repository: "refuse/app", Digest: digest}
			about := digest
			if tt.subject != "" {
				about = tt.subject
			}
			raw, err := attest.Sign(t.Context(), signer, private.Public(), attest.Statement{
				Subject:       []attest.Subject{{Name: "app", SHA256: strings.TrimPrefix(about, "sha256:")}},
				PredicateType: reviewType, Predicate: json.RawMessage(`{"approved":false}`),
			})
			if err != nil {
				t.Fatal(err)
			}
			if tt.change != nil {
				raw = changed(t, raw, tt.change)
			}
			subject, err := client.Resolve(t.Context(), image)
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.PutReferrer(t.Context(), image, subject, registry.Artifact{
				ArtifactType: attest.BundleMediaType, Content: raw,
				Annotations: map[string]string{attest.AnnotationContent: "dsse-envelope", attest.AnnotationPredicateType: reviewType},
			})
			if err != nil {
				t.Fatal(err)
			}
			roots := attest.TrustRoots{Keys: []attest.TrustedKey{{Key: private.Public()}}}
			if _, err := attest.Verify(raw, digest, roots); !errors.Is(err, tt.want) {
				t.Errorf("we say %v, want %v", err, tt.want)
			}
			if _, err := c.verify(t.Context(), key, reviewType, image.String()); (err == nil) != (tt.want == nil && !tt.onlyWe) {
				t.Errorf("cosign says %v, want %v", err, tt.want)
			}
		})
	}
}

func changed(t *testing.T, raw []byte, change func(*testing.T, map[string]any)) []byte {
	t.Helper()
	var bundle map[string]any
	if err := json.Unmarshal(raw, &bundle); err != nil {
		t.Fatal(err)
	}
	change(t, bundle)
	raw, err := json.Marshal(bundle)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func mediaType(to string) func(*testing.T, map[string]any) {
	return func(_ *testing.T, bundle map[string]any) { bundle["mediaType"] = to }
}

func envelope(t *testing.T, bundle map[string]any) map[string]any {
	t.Helper()
	e, ok := bundle["dsseEnvelope"].(map[string]any)
	if !ok {
		t.Fatalf("no envelope in %v", bundle)
	}
	return e
}

func changePayload(t *testing.T, bundle map[string]any) {
	t.Helper()
	e := envelope(t, bundle)
	var payload []byte
	text, err := json.Marshal(e["payload"])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &payload); err != nil {
		t.Fatal(err)
	}
	e["payload"] = []byte(strings.Replace(string(payload), `"approved":false`, `"approved":true`, 1))
}

func twoSignatures(t *testing.T, bundle map[string]any) {
	t.Helper()
	e := envelope(t, bundle)
	one, ok := e["signatures"].([]any)
	if !ok {
		t.Fatal("no signatures")
	}
	e["signatures"] = append(one, one[0])
}

func noSignature(t *testing.T, bundle map[string]any) {
	t.Helper()
	envelope(t, bundle)["signatures"] = []any{}
}
