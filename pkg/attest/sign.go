package attest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"
)

// Sign makes a bundle of st, signed by s. pub is the public half of s's key; the
// bundle names it, and it is checked that it fits, so that a wrong pair is an
// error here and not at every reader.
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
	sig, err := s.SignMessage(pae(payload), options.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	if err := checkPair(s, pub, sig, payload); err != nil {
		return nil, err
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

// pae is what a DSSE signature is of: type and payload with their lengths (DSSE
// protocol.md). It is read and not copied: payloads are large.
func pae(payload []byte) io.Reader {
	head := fmt.Sprintf("DSSEv1 %d %s %d ", len(PayloadType), PayloadType, len(payload))
	return io.MultiReader(strings.NewReader(head), bytes.NewReader(payload))
}

// checkPair checks that the signature can be verified with pub. Of a signer in this
// process its key tells; what another program signed is verified.
func checkPair(s signature.Signer, pub crypto.PublicKey, sig, payload []byte) error {
	switch s.(type) {
	case *signature.ECDSASigner, *signature.ED25519Signer, *signature.RSAPKCS1v15Signer:
		own, err := s.PublicKey()
		if err != nil {
			return fmt.Errorf("public key of the signer: %w", err)
		}
		if k, ok := own.(interface{ Equal(x crypto.PublicKey) bool }); !ok || !k.Equal(pub) {
			return fmt.Errorf("%w: the signer does not fit its public key", ErrBadSignature)
		}
		return nil
	}
	verifier, err := signature.LoadDefaultVerifier(pub)
	if err != nil {
		return fmt.Errorf("load public key: %w", err)
	}
	if err := verifier.VerifySignature(bytes.NewReader(sig), pae(payload)); err != nil {
		return fmt.Errorf("%w: the signer does not fit its public key: %w", ErrBadSignature, err)
	}
	return nil
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
