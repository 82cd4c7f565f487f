// Package webhook is the sink for HTTP endpoints: CloudEvents 1.0 in structured JSON, signed
// as Standard Webhooks 1.0.0 has it.
package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Headers of Standard Webhooks 1.0.0.
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp"
	HeaderSignature = "Webhook-Signature"
)

// Prefixes by which keys are recognised.
const (
	secretPrefix  = "whsec_"
	privatePrefix = "whsk_"
	publicPrefix  = "whpk_"
)

// Lengths of a symmetric secret in bytes, decoded.
const (
	minSecret = 24
	maxSecret = 64
)

// Signer signs a message with one key.
type Signer interface {
	// Sign returns one entry of the signature header.
	Sign(id string, timestamp time.Time, body []byte) string
}

// ParseSecret reads a shared secret: `whsec_` and 24 to 64 bytes in base64. It signs
// `v1`, HMAC-SHA256. Errors do not contain the secret.
func ParseSecret(s string) (Signer, error) {
	key, err := decodeKey(s, secretPrefix)
	if err != nil {
		return nil, err
	}
	if len(key) < minSecret || len(key) > maxSecret {
		return nil, fmt.Errorf("the secret has %d bytes, not %d to %d", len(key), minSecret, maxSecret)
	}
	return hmacSigner(key), nil
}

// ParsePrivateKey reads an ed25519 private key: `whsk_` and in base64 the seed of 32
// bytes, or seed and public key. It signs `v1a`. Errors do not contain the key.
func ParsePrivateKey(s string) (Signer, error) {
	key, err := decodeKey(s, privatePrefix)
	if err != nil {
		return nil, err
	}
	switch len(key) {
	case ed25519.SeedSize:
		return ed25519Signer(ed25519.NewKeyFromSeed(key)), nil
	case ed25519.PrivateKeySize:
		private := ed25519.NewKeyFromSeed(key[:ed25519.SeedSize])
		if !private.Equal(ed25519.PrivateKey(key)) {
			return nil, errors.New("the public half does not belong to the seed")
		}
		return ed25519Signer(private), nil
	default:
		return nil, fmt.Errorf("the key has %d bytes, not %d or %d", len(key), ed25519.SeedSize, ed25519.PrivateKeySize)
	}
}

func decodeKey(s, prefix string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(strings.TrimSpace(s), prefix)
	if !ok {
		return nil, fmt.Errorf("does not start with %s", prefix)
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, errors.New("is not base64 after " + prefix)
	}
	return key, nil
}

type hmacSigner []byte

func (s hmacSigner) Sign(id string, timestamp time.Time, body []byte) string {
	mac := hmac.New(sha256.New, s)
	mac.Write(signedContent(id, timestamp, body))
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

type ed25519Signer ed25519.PrivateKey

func (s ed25519Signer) Sign(id string, timestamp time.Time, body []byte) string {
	return "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(ed25519.PrivateKey(s), signedContent(id, timestamp, body)))
}

// PublicKey returns the `whpk_` key that subscribers verify with; "" for a signer
// that has none because its secret is shared.
func PublicKey(s Signer) string {
	private, ok := s.(ed25519Signer)
	if !ok {
		return ""
	}
	// The second half of an ed25519 private key is the public key (RFC 8032).
	return publicPrefix + base64.StdEncoding.EncodeToString(private[ed25519.SeedSize:])
}

// signedContent is `id.timestamp.body`. Ids are ours and hold no dot.
func signedContent(id string, timestamp time.Time, body []byte) []byte {
	content := make([]byte, 0, len(id)+len(body)+24)
	content = append(content, id...)
	content = append(content, '.')
	content = strconv.AppendInt(content, timestamp.Unix(), 10)
	content = append(content, '.')
	return append(content, body...)
}

// setHeaders signs body for one attempt, with every signer.
func setHeaders(h http.Header, signers []Signer, id string, timestamp time.Time, body []byte) {
	signatures := make([]string, 0, len(signers))
	for _, s := range signers {
		signatures = append(signatures, s.Sign(id, timestamp, body))
	}
	h.Set(HeaderID, id)
	h.Set(HeaderTimestamp, strconv.FormatInt(timestamp.Unix(), 10))
	h.Set(HeaderSignature, strings.Join(signatures, " "))
}
