package attest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"

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
	p, err := NewPayload(st)
	if err != nil {
		return nil, err
	}
	b, err := SignPayload(ctx, s, pub, p)
	if err != nil {
		return nil, err
	}
	return b.Bytes()
}

// DigestSigner is a signer that takes the SHA-256 of its message instead of the
// message.
type DigestSigner interface {
	SignDigest(ctx context.Context, sum []byte) ([]byte, error)
}

// SignPayload makes a bundle as Sign does, of which nothing is written down yet. With
// an ECDSA P-256 or RSA key of sigstore's signers or of a DigestSigner, and with a
// Signer of this package, the payload is in memory at no time; with others it may have
// MaxStatement bytes.
func SignPayload(ctx context.Context, s signature.Signer, pub crypto.PublicKey, p Payload) (*Bundle, error) {
	hint, err := keyHint(pub)
	if err != nil {
		return nil, err
	}
	sum, sig, err := signSum(ctx, s, pub, p)
	switch {
	case err != nil:
		err = fmt.Errorf("sign statement: %w", err)
	case sig != nil:
		err = checkSum(s, pub, sig, sum)
	default:
		sig, err = signMessage(ctx, s, pub, p)
	}
	if err != nil {
		return nil, err
	}
	return newBundle(p, pub, hint, sum, sig), nil
}

func signMessage(ctx context.Context, s signature.Signer, pub crypto.PublicKey, p Payload) (sig []byte, err error) {
	if own, ok := s.(*Signer); ok && p.doc != nil {
		if err := samePublic(own, pub); err != nil {
			return nil, err
		}
		return own.signDocument(p)
	}
	message, err := p.message()
	if err != nil {
		return nil, fmt.Errorf("%w: the signer wants the whole of it: ECDSA P-256 and RSA keys do not", err)
	}
	if sig, err = s.SignMessage(message(), options.WithContext(ctx)); err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	if inProcess(s) {
		return sig, samePublic(s, pub)
	}
	verifier, err := signature.LoadDefaultVerifier(pub)
	if err != nil {
		return nil, fmt.Errorf("load public key: %w", err)
	}
	if err := verifier.VerifySignature(bytes.NewReader(sig), message()); err != nil {
		return nil, fmt.Errorf("%w: the signer does not fit its public key: %w", ErrBadSignature, err)
	}
	return sig, nil
}

// signSum signs the digest of the payload, or gives nothing if the signer or its key
// wants the message.
func signSum(ctx context.Context, s signature.Signer, pub crypto.PublicKey, p Payload) (sum, sig []byte, err error) {
	if !isSHA256Key(pub) {
		return nil, nil, nil
	}
	var sign func() ([]byte, error)
	switch s := s.(type) {
	case *signature.ECDSASigner, *signature.RSAPKCS1v15Signer:
		sign = func() ([]byte, error) {
			return s.SignMessage(nil, options.WithDigest(sum), options.WithCryptoSignerOpts(crypto.SHA256))
		}
	case DigestSigner:
		sign = func() ([]byte, error) { return s.SignDigest(ctx, sum) }
	default:
		return nil, nil, nil
	}
	if sum, err = p.sum(); err != nil {
		return nil, nil, err
	}
	sig, err = sign()
	return sum, sig, err
}

// isSHA256Key says of keys that sign a SHA-256 with every signer.
func isSHA256Key(pub crypto.PublicKey) bool {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		return pub.Curve == elliptic.P256()
	case *rsa.PublicKey:
		return true
	default:
		return false
	}
}

// checkSum checks that a signature of a digest can be verified with pub. Of a signer
// in this process its key tells; what another program signed is verified.
func checkSum(s signature.Signer, pub crypto.PublicKey, sig, sum []byte) error {
	if inProcess(s) {
		return samePublic(s, pub)
	}
	good := false
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(pub, sum, sig)
	case *rsa.PublicKey:
		good = rsa.VerifyPKCS1v15(pub, crypto.SHA256, sum, sig) == nil
	}
	if !good {
		return fmt.Errorf("%w: the signer does not fit its public key", ErrBadSignature)
	}
	return nil
}

func inProcess(s signature.Signer) bool {
	switch s.(type) {
	case *signature.ECDSASigner, *signature.ED25519Signer, *signature.RSAPKCS1v15Signer, *Signer:
		return true
	default:
		return false
	}
}

func samePublic(s signature.Signer, pub crypto.PublicKey) error {
	own, err := s.PublicKey()
	if err != nil {
		return fmt.Errorf("public key of the signer: %w", err)
	}
	if k, ok := own.(interface{ Equal(x crypto.PublicKey) bool }); !ok || !k.Equal(pub) {
		return fmt.Errorf("%w: the signer does not fit its public key", ErrBadSignature)
	}
	return nil
}

// message gives readers of what is signed, all of which is in memory.
func (p Payload) message() (func() io.Reader, error) {
	raw, err := p.Bytes()
	if err != nil {
		return nil, err
	}
	return func() io.Reader { return io.MultiReader(bytes.NewReader(p.preamble()), bytes.NewReader(raw)) }, nil
}

// Signer signs with an Ed25519 key in this process. Unlike sigstore's it copies
// nothing of what it signs.
type Signer struct {
	*signature.ED25519Signer
	private ed25519.PrivateKey
}

// NewEd25519Signer returns a signer of the key.
func NewEd25519Signer(private ed25519.PrivateKey) (*Signer, error) {
	s, err := signature.LoadED25519Signer(private)
	if err != nil {
		return nil, err
	}
	return &Signer{ED25519Signer: s, private: private}, nil
}

// signDocument signs a payload that is not in memory.
func (s *Signer) signDocument(p Payload) (sig []byte, err error) {
	err = p.mapped(func(message []byte) { sig = ed25519.Sign(s.private, message) })
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	return sig, nil
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
