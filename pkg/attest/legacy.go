package attest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
)

// The form that cosign wrote before bundles: an image below the tag
// `sha256-<hex>.att` whose layers are DSSE envelopes.
const (
	// EnvelopeMediaType is the type of such a layer.
	EnvelopeMediaType = "application/vnd.dsse.envelope.v1+json"

	legacySuffix         = ".att"
	annotationSignature  = "dev.cosignproject.cosign/signature"
	annotationLegacyType = "predicateType"
	// annotationIdentity marks our own layers with the identity that signed them.
	annotationIdentity = "dev.seaworthy.signer/identity"
)

// envelopeJSON is a DSSE envelope as secure-systems-lab/dsse envelope.md has it.
type envelopeJSON struct {
	PayloadType string              `json:"payloadType"`
	Payload     string              `json:"payload"`
	Signatures  []envelopeSignature `json:"signatures"`
}

type envelopeSignature struct {
	KeyID     string `json:"keyid"`
	Signature string `json:"sig"`
}

// Envelope returns the DSSE envelope of a bundle as JSON: the same bundle gives
// the same bytes. Nothing is verified. It says false for a bundle that is signed
// with a certificate: an envelope alone cannot carry that.
func Envelope(bundle []byte) ([]byte, bool, error) {
	entity, _, err := parseBundle(bundle)
	if err != nil {
		return nil, false, err
	}
	if entity.GetVerificationMaterial().GetPublicKey() == nil {
		return nil, false, nil
	}
	e := entity.GetDsseEnvelope()
	raw, err := json.Marshal(envelopeJSON{
		PayloadType: e.GetPayloadType(), Payload: base64.StdEncoding.EncodeToString(e.GetPayload()),
		Signatures: []envelopeSignature{{Signature: base64.StdEncoding.EncodeToString(e.GetSignatures()[0].GetSig())}},
	})
	if err != nil {
		return nil, false, fmt.Errorf("marshal envelope: %w", err)
	}
	return raw, true, nil
}

// AttachLegacy attaches the envelope of a bundle to the digest of ref in the form
// that readers from before bundles look for, in place of the one of ours with the
// same predicate type and identity, which is a name or empty: what another identity
// signed stays. What is signed with a certificate is left out. Errors are those of
// Envelope and of the registry.
func AttachLegacy(ctx context.Context, c *registry.Client, ref imageref.Ref, bundle []byte, predicateType, identity string) error {
	envelope, keyed, err := Envelope(bundle)
	if err != nil || !keyed {
		return err
	}
	layer := registry.Layer{MediaType: EnvelopeMediaType, Content: envelope, Annotations: map[string]string{
		annotationSignature: "", annotationLegacyType: predicateType, annotationIdentity: identity,
	}}
	err = c.PutTaggedLayer(ctx, ref, legacySuffix, layer, func(a map[string]string) bool {
		by, ours := a[annotationIdentity]
		return ours && by == identity && a[annotationLegacyType] == predicateType
	})
	if err != nil {
		return fmt.Errorf("attach attestation for old readers: %w", err)
	}
	return nil
}
