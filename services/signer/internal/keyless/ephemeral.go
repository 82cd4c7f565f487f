package keyless

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
)

// ephemeral is a key for one signature, ECDSA P-256, which every Sigstore client
// takes. It is a sign.Keypair. That of sigstore-go signs what it has in memory and
// nothing else; this one's signer takes the digest of a large document.
type ephemeral struct {
	signer *signature.ECDSASigner
	public crypto.PublicKey
}

func newEphemeral() (ephemeral, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return ephemeral{}, fmt.Errorf("make a key: %w", err)
	}
	s, err := signature.LoadECDSASigner(private, crypto.SHA256)
	if err != nil {
		return ephemeral{}, fmt.Errorf("make a key: %w", err)
	}
	return ephemeral{signer: s, public: private.Public()}, nil
}

// GetHashAlgorithm implements sign.Keypair.
func (e ephemeral) GetHashAlgorithm() protocommon.HashAlgorithm {
	return protocommon.HashAlgorithm_SHA2_256
}

// GetSigningAlgorithm implements sign.Keypair.
func (e ephemeral) GetSigningAlgorithm() protocommon.PublicKeyDetails {
	return protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256
}

// GetHint implements sign.Keypair.
func (e ephemeral) GetHint() []byte { return []byte(attest.KeyID(e.public)) }

// GetKeyAlgorithm implements sign.Keypair.
func (e ephemeral) GetKeyAlgorithm() string { return "ECDSA" }

// GetPublicKey implements sign.Keypair.
func (e ephemeral) GetPublicKey() crypto.PublicKey { return e.public }

// GetPublicKeyPem implements sign.Keypair.
func (e ephemeral) GetPublicKeyPem() (string, error) {
	text, err := cryptoutils.MarshalPublicKeyToPEM(e.public)
	return string(text), err
}

// SignData implements sign.Keypair: it gives the signature and the digest it is of.
func (e ephemeral) SignData(_ context.Context, data []byte) (sig, sum []byte, err error) {
	if sig, err = e.signer.SignMessage(bytes.NewReader(data)); err != nil {
		return nil, nil, err
	}
	digest := sha256.Sum256(data)
	return sig, digest[:], nil
}
