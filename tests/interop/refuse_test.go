package interop

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
)

const (
	reviewType = "https://example.com/review/v1"

	bundleV01 = "application/vnd.dev.sigstore.bundle+json;version=0.1"
	bundleV02 = "application/vnd.dev.sigstore.bundle+json;version=0.2"
	bundleV03 = "application/vnd.dev.sigstore.bundle+json;version=0.3"
)

// TestInterop_AllRefuse attaches bundles by a key that are wrong in one way each:
// cosign, sigstore-go and our verification refuse the same ones.
func TestInterop_AllRefuse(t *testing.T) {
	c := newCosign(t, emptyRoot)
	private := newECDSA(t)
	signer, err := signature.LoadDefaultSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := cryptoutils.MarshalPublicKeyToPEM(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	key, otherKey := write(t, c.home, "key.pub", pem), write(t, c.home, "other.pub", otherKey(t))
	shelf := newShelf(t)
	const elsewhere = "sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
	tests := []struct {
		name    string
		subject string // empty: the image
		change  func(t *testing.T, bundle map[string]any)
		strange bool  // the readers trust another key
		want    error // nil: it is good
		// notCosign is set for what the bundle's specification has readers accept and
		// cosign v3 does not: bundles of the versions before its own.
		notCosign bool
	}{
		{name: "as it was signed"},
		{name: "another key", strange: true, want: attest.ErrUntrustedKey},
		{name: "bundle v0.3 by its old name", change: mediaType(bundleV03)},
		{name: "bundle v0.2", change: mediaType(bundleV02), notCosign: true},
		{name: "bundle v0.1", change: mediaType(bundleV01), notCosign: true},
		{name: "bundle of a version to come", change: mediaType("application/vnd.dev.sigstore.bundle+json;version=9.9"), want: attest.ErrMalformed},
		{name: "another subject", subject: elsewhere, want: attest.ErrWrongSubject},
		{name: "changed payload", change: changePayload, want: attest.ErrBadSignature},
		{name: "two signatures", change: twoSignatures, want: attest.ErrMalformed},
		{name: "no signature", change: noSignature, want: attest.ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			image := shelf.push(t, tt.name)
			about := image.Digest
			if tt.subject != "" {
				about = tt.subject
			}
			raw, err := attest.Sign(t.Context(), signer, private.Public(), review(about))
			if err != nil {
				t.Fatal(err)
			}
			if tt.change != nil {
				raw = changed(t, raw, tt.change)
			}
			shelf.attach(t, image, raw)
			trusted, file := private.Public(), key
			if tt.strange {
				trusted, file = newECDSA(t).Public(), otherKey
			}
			_, ours := attest.Verify(raw, image.Digest, attest.TrustRoots{Keys: []attest.TrustedKey{{Key: trusted}}})
			verifier, err := verify.NewVerifier(withKey{TrustedMaterial: &root.BaseTrustedMaterial{}, key: trusted}, verify.WithNoObserverTimestamps())
			if err != nil {
				t.Fatal(err)
			}
			library := sigstoreGo(t, verifier, raw, image.Digest, verify.WithKey())
			_, program := c.verify(t.Context(), file, reviewType, image.String())
			t.Logf("cosign %s, sigstore-go %s, ours %s (%v)", said(program), said(library), said(ours), ours)
			if !errors.Is(ours, tt.want) {
				t.Errorf("we say %v, want %v", ours, tt.want)
			}
			if (library == nil) != (tt.want == nil) {
				t.Errorf("sigstore-go says %v, want %v", library, tt.want)
			}
			if (program == nil) != (tt.want == nil && !tt.notCosign) {
				t.Errorf("cosign says %v, want %v", program, tt.want)
			}
		})
	}
}

// review is a statement that the tests change to its opposite.
func review(digest string) attest.Statement {
	return attest.Statement{
		Subject:       []attest.Subject{{Name: "app", SHA256: strings.TrimPrefix(digest, "sha256:")}},
		PredicateType: reviewType, Predicate: json.RawMessage(`{"approved":false}`),
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
