package keyless

import (
	"context"
	"crypto"
	"fmt"
	"io"

	"github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore/pkg/signature"
)

// ephemeral is a key for one signature, ECDSA P-256, which every Sigstore client
// takes. It is a sign.Keypair and a signature.Signer.
type ephemeral struct{ *sign.EphemeralKeypair }

func newEphemeral() (ephemeral, error) {
	k, err := sign.NewEphemeralKeypair(nil)
	if err != nil {
		return ephemeral{}, fmt.Errorf("make a key: %w", err)
	}
	return ephemeral{k}, nil
}

// PublicKey implements signature.Signer.
func (e ephemeral) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) {
	return e.GetPublicKey(), nil
}

// SignMessage implements signature.Signer.
func (e ephemeral) SignMessage(message io.Reader, _ ...signature.SignOption) ([]byte, error) {
	raw, err := io.ReadAll(message)
	if err != nil {
		return nil, err
	}
	sig, _, err := e.SignData(context.Background(), raw) // in memory: there is nothing to wait for
	return sig, err
}
