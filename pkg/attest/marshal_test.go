package attest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/testing/protocmp"
)

// TestMarshal_AsProtojsonReads: whatever is in a bundle, protojson reads from ours
// what went in.
func TestMarshal_AsProtojsonReads(t *testing.T) {
	keyed := func(hint string) *protobundle.Bundle {
		return &protobundle.Bundle{
			MediaType: BundleMediaType,
			VerificationMaterial: &protobundle.VerificationMaterial{
				Content: &protobundle.VerificationMaterial_PublicKey{PublicKey: &protocommon.PublicKeyIdentifier{Hint: hint}},
			},
			Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
				Payload: []byte(`{"a":"ü<>&"}`), PayloadType: PayloadType, Signatures: []*protodsse.Signature{{Sig: []byte{0, 255, 62, 63}}},
			}},
		}
	}
	strange, two := keyed(`"<\`), keyed("two")
	two.GetDsseEnvelope().Signatures = append(two.GetDsseEnvelope().Signatures, &protodsse.Signature{Sig: []byte("x"), Keyid: "k"})
	for name, b := range map[string]*protobundle.Bundle{
		"key": keyed("aGludA=="), "no hint": keyed(""), "strange hint": strange, "two signatures": two,
		"certificate": newSigstore(t).attested(t, testStatement(), true, time.Now()),
	} {
		raw, err := Marshal(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got protobundle.Bundle
		if err := protojson.Unmarshal(raw, &got); err != nil {
			t.Errorf("%s: %v in %s", name, err, raw)
			continue
		}
		if diff := cmp.Diff(b, &got, protocmp.Transform()); diff != "" {
			t.Errorf("%s (-in +read):\n%s", name, diff)
		}
	}
}

func TestMarshal_Refuses(t *testing.T) {
	if _, err := Marshal(&protobundle.Bundle{MediaType: BundleMediaType}); !errors.Is(err, ErrMalformed) {
		t.Errorf("without an envelope: %v", err)
	}
	large := &protobundle.Bundle{Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{Payload: make([]byte, MaxBundle/4*3+4)}}}
	if _, err := Marshal(large); !errors.Is(err, ErrTooLarge) {
		t.Errorf("over the limit: %v", err)
	}
}
