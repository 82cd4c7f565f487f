// Package advisorybundle is the form in which an advisory snapshot is carried to a site
// without a network: one file, signed, that a scanner takes only with a signature of a
// key that it is configured to trust.
//
// A bundle is a magic word, the length of a DSSE envelope (4 bytes, big endian), the
// envelope as JSON, and the snapshot compressed with gzip. The envelope's payload is a
// Statement: it names the snapshot by its SHA-256, so the signature covers every byte.
package advisorybundle

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
)

const (
	magic       = "SWBUNDLE"
	payloadType = "application/vnd.seaworthy.advisories.v1+json"
	maxEnvelope = 64 << 10
)

// Errors.
var (
	// ErrFormat says that a file is no bundle, or is damaged.
	ErrFormat = errors.New("not a bundle of advisories")
	// ErrUntrusted says that none of the trusted keys signed a bundle.
	ErrUntrusted = errors.New("the bundle is not signed by a trusted key")
	// ErrKey says that a key cannot be used.
	ErrKey = errors.New("not a usable key: want ECDSA or Ed25519")
)

// Statement is what is signed.
type Statement struct {
	// Digest is the snapshot's, `sha256:` and hex; Size is of its file, in bytes.
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
	// DataTime is when the newest advisory was modified; CreateTime when the bundle was
	// made.
	DataTime      time.Time `json:"dataTime"`
	CreateTime    time.Time `json:"createTime"`
	AdvisoryCount int64     `json:"advisoryCount"`
}

// envelope is DSSE's.
type envelope struct {
	Payload     []byte      `json:"payload"`
	PayloadType string      `json:"payloadType"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	KeyID string `json:"keyid,omitempty"`
	Sig   []byte `json:"sig"`
}

// preAuthentication is what DSSE signs.
func preAuthentication(payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

// Write writes a bundle of a snapshot.
func Write(w io.Writer, s Statement, snapshot []byte, key crypto.Signer) error {
	payload, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	sig, err := sign(key, preAuthentication(payload))
	if err != nil {
		return fmt.Errorf("sign bundle: %w", err)
	}
	id, err := keyID(key.Public())
	if err != nil {
		return fmt.Errorf("sign bundle: %w", err)
	}
	env, err := json.Marshal(envelope{Payload: payload, PayloadType: payloadType, Signatures: []signature{{KeyID: id, Sig: sig}}})
	if err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	head := append([]byte(magic), binary.BigEndian.AppendUint32(nil, uint32(len(env)))...)
	if _, err := w.Write(append(head, env...)); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	zw := gzip.NewWriter(w)
	if _, err := zw.Write(snapshot); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	if err := zw.Close(); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return nil
}

// Is tells whether a file begins as a bundle does.
func Is(r io.Reader) bool {
	head := make([]byte, len(magic))
	_, err := io.ReadFull(r, head)
	return err == nil && string(head) == magic
}

// Read reads a bundle and returns the snapshot, which has the digest of the statement.
// Nothing behind the envelope is looked at before one of the keys has been found to
// have signed it. A snapshot larger than maxBytes is refused. Errors are ErrFormat,
// ErrUntrusted and those of r.
func Read(r io.Reader, keys []crypto.PublicKey, maxBytes int64) (Statement, []byte, error) {
	s, err := readStatement(r, keys)
	if err != nil {
		return Statement{}, nil, err
	}
	if s.Size < 0 || s.Size > maxBytes {
		return s, nil, fmt.Errorf("%w: snapshot of %d bytes exceeds the limit of %d", ErrFormat, s.Size, maxBytes)
	}
	zr, err := gzip.NewReader(r)
	if err != nil {
		return s, nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	var content bytes.Buffer
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(&content, h), io.LimitReader(zr, s.Size+1))
	if err != nil {
		return s, nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if n != s.Size || "sha256:"+hex.EncodeToString(h.Sum(nil)) != s.Digest {
		return s, nil, fmt.Errorf("%w: it does not hold the snapshot that was signed", ErrFormat)
	}
	return s, content.Bytes(), nil
}

func readStatement(r io.Reader, keys []crypto.PublicKey) (s Statement, err error) {
	head := make([]byte, len(magic)+4)
	if _, err := io.ReadFull(r, head); err != nil {
		return s, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	size := binary.BigEndian.Uint32(head[len(magic):])
	if string(head[:len(magic)]) != magic || size > maxEnvelope {
		return s, ErrFormat
	}
	content := make([]byte, size)
	if _, err := io.ReadFull(r, content); err != nil {
		return s, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	var e envelope
	if err := strictjson.Unmarshal(content, &e); err != nil || e.PayloadType != payloadType {
		return s, fmt.Errorf("%w: its envelope cannot be read", ErrFormat)
	}
	if !e.signedBy(keys) {
		return s, ErrUntrusted
	}
	if err := strictjson.Unmarshal(e.Payload, &s); err != nil {
		return s, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return s, nil
}

func (e *envelope) signedBy(keys []crypto.PublicKey) bool {
	message := preAuthentication(e.Payload)
	for _, s := range e.Signatures {
		for _, k := range keys {
			if verify(k, message, s.Sig) {
				return true
			}
		}
	}
	return false
}

func sign(key crypto.Signer, message []byte) ([]byte, error) {
	switch key.Public().(type) {
	case ed25519.PublicKey:
		return key.Sign(rand.Reader, message, crypto.Hash(0))
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(message)
		return key.Sign(rand.Reader, sum[:], crypto.SHA256)
	}
	return nil, ErrKey
}

func verify(key crypto.PublicKey, message, sig []byte) bool {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(k, message, sig)
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(message)
		return ecdsa.VerifyASN1(k, sum[:], sig)
	}
	return false
}

// keyID is how Sigstore names a key: the SHA-256 of its DER form, in hex.
func keyID(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrKey, err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// ParsePublicKey reads a public key in PEM, such as `cosign generate-key-pair` writes
// to cosign.pub. The error is ErrKey.
func ParsePublicKey(text []byte) (crypto.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("%w: no PEM block of a public key", ErrKey)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	switch key.(type) {
	case ed25519.PublicKey, *ecdsa.PublicKey:
		return key, nil
	}
	return nil, ErrKey
}
