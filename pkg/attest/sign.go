package attest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"github.com/sigstore/sigstore/pkg/signature"
	sigdsse "github.com/sigstore/sigstore/pkg/signature/dsse"
	"google.golang.org/protobuf/encoding/protojson"
)

// Sign makes a bundle of st, signed by s. pub is the public half of s's key; the
// bundle names it, and the new signature is verified with it, so that a wrong
// pair is an error here and not at every reader.
//
// The statement in the bundle is a function of st. The bundle is not: ECDSA
// signatures differ each time.
//
// For cosign to verify it the key must be ECDSA P-256, Ed25519 or RSA: cosign
// v3.1 verifies P-384 and P-521 keys with SHA-256 instead of the curve's hash.
func Sign(ctx context.Context, s signature.Signer, pub crypto.PublicKey, st Statement) ([]byte, error) {
	b, err := Draft(ctx, s, pub, st)
	if err != nil {
		return nil, err
	}
	return Marshal(b)
}

// Draft makes a bundle as Sign does, before it is written down: certificate, log
// entries and timestamps can be put into its verification material.
func Draft(ctx context.Context, s signature.Signer, pub crypto.PublicKey, st Statement) (*protobundle.Bundle, error) {
	payload, err := MarshalStatement(st)
	if err != nil {
		return nil, err
	}
	hint, err := keyHint(pub)
	if err != nil {
		return nil, err
	}
	pae := dsse.PAE(PayloadType, payload)
	adapter := sigdsse.SignerAdapter{SignatureSigner: s, Pub: pub}
	sig, err := adapter.Sign(ctx, pae)
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	verifier, err := signature.LoadDefaultVerifier(pub)
	if err != nil {
		return nil, fmt.Errorf("load public key: %w", err)
	}
	if err := verifier.VerifySignature(bytes.NewReader(sig), bytes.NewReader(pae)); err != nil {
		return nil, fmt.Errorf("%w: the signer does not fit its public key: %w", ErrBadSignature, err)
	}
	return &protobundle.Bundle{
		MediaType: BundleMediaType,
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content: &protobundle.VerificationMaterial_PublicKey{PublicKey: &protocommon.PublicKeyIdentifier{Hint: hint}},
		},
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload: payload, PayloadType: PayloadType,
			Signatures: []*protodsse.Signature{{Sig: sig}},
		}},
	}, nil
}

// Marshal gives a bundle's JSON, without the random spaces that protojson puts in.
// Over the limit is ErrTooLarge.
func Marshal(b *protobundle.Bundle) ([]byte, error) {
	raw, err := protojson.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("marshal bundle: %w", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		return nil, fmt.Errorf("marshal bundle: %w", err)
	}
	if compact.Len() > MaxBundle {
		return nil, fmt.Errorf("%w: bundle of %d bytes, the limit is %d", ErrTooLarge, compact.Len(), MaxBundle)
	}
	return compact.Bytes(), nil
}

// KeyID names a public key: the SHA-256 of its PKIX form in 64 lower-case hex
// digits. It is empty for a key of an unknown type.
func KeyID(pub crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// keyHint names a public key the way cosign v3 and sigstore-go do in bundles:
// the SHA-256 of its PKIX form in base64.
func keyHint(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}
