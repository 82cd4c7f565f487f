package attest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/verify"
)

// Verify checks that a trusted key signed the bundle's statement and that the
// statement is about subjectDigest (`sha256:` and 64 hex digits). It accepts
// bundles v0.1 to v0.3 with a DSSE envelope of an in-toto Statement, exactly
// one signature and a public key; it asks for no transparency log and no
// timestamp. Errors are ErrMalformed, ErrTooLarge, ErrUntrustedKey,
// ErrBadSignature and ErrWrongSubject.
func Verify(raw []byte, subjectDigest string, roots TrustRoots) (*Verified, error) {
	sum, err := subjectSum(subjectDigest)
	if err != nil {
		return nil, err
	}
	entity, st, err := parseBundle(raw)
	if err != nil {
		return nil, err
	}
	key := entity.GetVerificationMaterial().GetPublicKey()
	if key == nil {
		return nil, fmt.Errorf("%w: it is signed with a certificate", ErrUntrustedKey)
	}
	keys, named, err := roots.candidates(key.GetHint())
	if err != nil {
		return nil, err
	}
	about := st.isAbout(subjectDigest)
	artifact := verify.WithArtifactDigest("sha256", sum)
	if !about {
		// The signature is still looked at: it decides what the error is.
		artifact = verify.WithoutArtifactUnsafe()
	}
	var failures []error
	for _, k := range keys {
		if err := verifyWith(entity, k, artifact); err != nil {
			failures = append(failures, err)
			continue
		}
		if stated := StatedTime(st); !k.covers(stated) {
			return nil, fmt.Errorf("%w: key %.100q stopped signing at %s, the statement is of %s",
				ErrUntrustedKey, k.id(), k.NotAfter.UTC().Format(time.RFC3339), stated.Format(time.RFC3339))
		}
		if !about {
			return nil, fmt.Errorf("%w: wanted %s", ErrWrongSubject, subjectDigest)
		}
		return &Verified{Statement: st, KeyID: k.id()}, nil
	}
	if named > 0 {
		return nil, fmt.Errorf("%w: %w", ErrBadSignature, failures[0])
	}
	return nil, fmt.Errorf("%w: key hint %.100q, %d trusted keys", ErrUntrustedKey, key.GetHint(), len(keys))
}

func verifyWith(entity *bundle.Bundle, k TrustedKey, artifact verify.ArtifactPolicyOption) error {
	material, err := k.material()
	if err != nil {
		return err
	}
	// The key's window is checked outside: a key proves no time of signing.
	verifier, err := verify.NewVerifier(material, verify.WithNoObserverTimestamps(), verify.WithoutStatementPredicate())
	if err != nil {
		return err
	}
	_, err = verifier.Verify(entity, verify.NewPolicy(artifact, verify.WithKey()))
	return err
}

func subjectSum(digest string) ([]byte, error) {
	sum, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || !isSHA256(sum) {
		return nil, fmt.Errorf("%w: %.100q is not a digest", ErrWrongSubject, digest)
	}
	return hex.DecodeString(sum)
}

// parseBundle reads a bundle and its statement and verifies no signature.
func parseBundle(raw []byte) (*bundle.Bundle, Statement, error) {
	if len(raw) > MaxBundle {
		return nil, Statement{}, fmt.Errorf("%w: bundle of %d bytes, the limit is %d", ErrTooLarge, len(raw), MaxBundle)
	}
	entity := &bundle.Bundle{Bundle: new(protobundle.Bundle)}
	if err := entity.UnmarshalJSON(raw); err != nil {
		return nil, Statement{}, malformed("not a Sigstore bundle", err)
	}
	envelope := entity.GetDsseEnvelope()
	if envelope == nil {
		return nil, Statement{}, malformed("bundle without a DSSE envelope", nil)
	}
	if n := len(envelope.GetSignatures()); n != 1 {
		return nil, Statement{}, malformed(fmt.Sprintf("envelope with %d signatures instead of one", n), nil)
	}
	if t := envelope.GetPayloadType(); t != PayloadType {
		return nil, Statement{}, malformed(fmt.Sprintf("payload type %.100q", t), nil)
	}
	st, err := ParseStatement(envelope.GetPayload())
	if err != nil {
		return nil, Statement{}, err
	}
	return entity, st, nil
}

// Untrusted reads the statement of a bundle without verifying anything: to show
// what there is, never to decide by it.
func Untrusted(raw []byte) (Statement, error) {
	_, st, err := parseBundle(raw)
	return st, err
}

// Reason is a short word for the kind of err, fit for a metric or a reason code:
// MALFORMED, TOO_LARGE, UNTRUSTED_KEY, BAD_SIGNATURE, WRONG_SUBJECT or "" for others.
func Reason(err error) string {
	for _, k := range []struct {
		kind   error
		reason string
	}{
		{ErrTooLarge, "TOO_LARGE"},
		{ErrMalformed, "MALFORMED"},
		{ErrUntrustedKey, "UNTRUSTED_KEY"},
		{ErrBadSignature, "BAD_SIGNATURE"},
		{ErrWrongSubject, "WRONG_SUBJECT"},
	} {
		if errors.Is(err, k.kind) {
			return k.reason
		}
	}
	return ""
}
