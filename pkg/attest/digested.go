package attest

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"
)

// A signature in an envelope is one of the bytes that DSSE makes of type and payload.
// Shown as the signature of a message with their digest it is the same signature of the
// same bytes, and certificates, timestamps and logs that take in digests can be added and
// verified without the bytes.

// Digested is the bundle as a message with the SHA-256 of what was signed in the place
// of the envelope, whatever the size of the payload. It is for those who add to its
// verification material, which With puts into the bundle; nobody else takes it for an
// attestation. The key must be ECDSA P-256, Ed25519 or RSA.
func (b *Bundle) Digested() (*protobundle.Bundle, error) {
	if b.whole != nil {
		return nil, errWritten
	}
	if !b.verifiesByDigest() {
		return nil, fmt.Errorf("a key of type %T does not sign a SHA-256", b.public)
	}
	sum := b.sum
	if sum == nil {
		var err error
		if sum, err = b.payload.sum(); err != nil {
			return nil, err
		}
	}
	return digested(b.keyMaterial(), sum, b.signature), nil
}

// verifiesByDigest says whether the signature can be verified without the envelope.
func (b *Bundle) verifiesByDigest() bool {
	_, ed := b.public.(ed25519.PublicKey)
	return ed || isSHA256Key(b.public)
}

func digested(m *protobundle.VerificationMaterial, sum, sig []byte) *protobundle.Bundle {
	return &protobundle.Bundle{
		MediaType: BundleMediaType, VerificationMaterial: m,
		Content: &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
			MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: slices.Clone(sum)},
			Signature:     slices.Clone(sig),
		}},
	}
}

// With is the bundle with another verification material: who signed, and what others
// say about the signature.
func (b *Bundle) With(m *protobundle.VerificationMaterial) (*Bundle, error) {
	if b.whole != nil {
		return nil, errWritten
	}
	head, err := marshalHead(m)
	if err != nil {
		return nil, err
	}
	out := *b
	out.head = append(bytes.TrimSuffix(head, []byte("}")), openEnvelope[1:]...)
	return &out, nil
}

// marshalHead is the JSON of a bundle without its envelope, and without the random spaces
// that protojson puts in.
func marshalHead(m *protobundle.VerificationMaterial) ([]byte, error) {
	raw, err := protojson.Marshal(&protobundle.Bundle{MediaType: BundleMediaType, VerificationMaterial: m})
	if err != nil {
		return nil, fmt.Errorf("marshal bundle: %w", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		return nil, fmt.Errorf("marshal bundle: %w", err)
	}
	return compact.Bytes(), nil
}

// Verify verifies the bundle as the function Verify does its JSON, with the same errors.
// The payload is in memory only for what Digested does not take, and where a log wants
// it, whose entries are not of digests (Rekor v1); it has MaxStatement bytes at most then.
// The statement of the result lacks
// a predicate that is a document.
func (b *Bundle) Verify(subjectDigest string, roots TrustRoots) (*Verified, error) {
	o, err := b.open()
	if err != nil {
		return nil, err
	}
	if o == nil {
		raw, err := b.Bytes()
		if err != nil {
			return nil, err
		}
		return Verify(raw, subjectDigest, roots)
	}
	if _, err := subjectSum(subjectDigest); err != nil {
		return nil, err
	}
	return o.verify(subjectDigest, roots)
}

// open reads what stands around the payload, as a reader will, and puts the digest of
// what was signed into the place of the envelope. It is nil if that is not enough to
// verify the bundle.
func (b *Bundle) open() (*opened, error) {
	if b.whole != nil || !b.verifiesByDigest() {
		return nil, nil
	}
	around := &bundle.Bundle{Bundle: new(protobundle.Bundle)}
	if err := unmarshalBundle(slices.Concat(b.head, b.tail), around); err != nil {
		return nil, malformed("not a Sigstore bundle", err)
	}
	entries, err := around.TlogEntries()
	if err != nil {
		return nil, malformed("log entry", err)
	}
	for _, e := range entries {
		if !e.IsRekorV2() {
			return nil, nil
		}
	}
	if err := checkEnvelope(around.GetDsseEnvelope()); err != nil {
		return nil, err
	}
	// Hashed anew: of what is there now, not of what was there when it was signed.
	sum, err := b.payload.sum()
	if err != nil {
		return nil, err
	}
	sig := around.GetDsseEnvelope().GetSignatures()[0].GetSig()
	entity, err := bundle.NewBundle(digested(around.GetVerificationMaterial(), sum, sig))
	if err != nil {
		return nil, malformed("not a Sigstore bundle", err)
	}
	st, err := b.payload.statement()
	if err != nil {
		return nil, err
	}
	return &opened{entity: entity, st: st, artifact: verify.WithArtifactDigest("sha256", sum), message: &b.payload}, nil
}

// mappedVerifier verifies with an Ed25519 key, which does not do with a digest.
type mappedVerifier struct {
	signature.Verifier
	key     ed25519.PublicKey
	message *Payload
}

// VerifySignature implements signature.Verifier. What was signed is its own message,
// whatever it is given.
func (v mappedVerifier) VerifySignature(sig, _ io.Reader, _ ...signature.VerifyOption) error {
	raw, err := io.ReadAll(sig)
	if err != nil {
		return err
	}
	good := false
	if err := v.message.mapped(func(message []byte) { good = ed25519.Verify(v.key, message, raw) }); err != nil {
		return fmt.Errorf("read what was signed: %w", err)
	}
	if !good {
		return errors.New("failed to verify signature")
	}
	return nil
}
