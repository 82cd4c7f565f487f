package attest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"google.golang.org/protobuf/encoding/protojson"
)

// What Fulcio 1.8.8, Rekor 2.3.0 and timestamp authority 2.1.3 answered to our
// signer, on loopback. The certificate lasted ten minutes.
func TestBundleOfRealServers(t *testing.T) {
	read := func(name string) []byte {
		raw, err := os.ReadFile(filepath.Join("testdata", "sigstore", name))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	trusted, err := ParseSigstoreRoot(read("trusted_root.json"))
	if err != nil {
		t.Fatal(err)
	}
	raw := read("bundle.json")
	whom := TrustedIdentity{IssuerRegexp: `http://127\.0\.0\.1:[0-9]+`, Subject: testIdentity, RequireLog: true, RequireTimestamp: true}
	roots := TrustRoots{Sigstore: trusted, Identities: []TrustedIdentity{whom}}
	changed := func(change func(*protobundle.Bundle)) []byte {
		var b protobundle.Bundle
		if err := protojson.Unmarshal(raw, &b); err != nil {
			t.Fatal(err)
		}
		change(&b)
		return toJSON(t, &b)
	}
	for name, tc := range map[string]struct {
		raw  []byte
		want error
	}{
		"as it came": {raw, nil},
		"as v0.2":    {changed(func(b *protobundle.Bundle) { asVersion(b, bundleV02) }), nil},
		"as v0.1":    {changed(func(b *protobundle.Bundle) { asVersion(b, bundleV01) }), ErrMalformed},
		"no log":     {changed(func(b *protobundle.Bundle) { noEntry(b) }), ErrNoLogEntry},
		"no time":    {changed(func(b *protobundle.Bundle) { noStamp(b) }), ErrNoTimestamp},
		"twice":      {changed(func(b *protobundle.Bundle) { twice(b) }), ErrMalformed},
		"index in the log": {changed(func(b *protobundle.Bundle) {
			b.GetVerificationMaterial().GetTlogEntries()[0].LogIndex += 7
		}), ErrNoLogEntry},
		"checkpoint": {changed(func(b *protobundle.Bundle) {
			c := b.GetVerificationMaterial().GetTlogEntries()[0].GetInclusionProof().GetCheckpoint()
			c.Envelope = "x" + c.GetEnvelope()
		}), ErrNoLogEntry},
		"signature": {changed(func(b *protobundle.Bundle) { b.GetDsseEnvelope().GetSignatures()[0].Sig[9] ^= 1 }), ErrBadSignature},
		"timestamp": {changed(func(b *protobundle.Bundle) {
			stamp := b.GetVerificationMaterial().GetTimestampVerificationData().GetRfc3161Timestamps()[0]
			stamp.SignedTimestamp[len(stamp.GetSignedTimestamp())-9] ^= 1
		}), ErrNoTimestamp},
	} {
		v, err := Verify(tc.raw, "sha256:"+testSum, roots)
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: %+v, %v", name, v, err)
			continue
		}
		if err == nil && (v.LogIndex == nil || v.Identity != testIdentity || v.SignTime.Format(time.DateOnly) != "2026-11-23") {
			t.Errorf("%s: %+v", name, v)
		}
	}
}
