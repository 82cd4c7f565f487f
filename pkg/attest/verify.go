package attest

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
)

// Verify checks that a trusted key or identity signed the bundle's statement and
// that the statement is about subjectDigest (`sha256:` and 64 hex digits). It
// accepts bundles v0.1 to v0.3 with a DSSE envelope of an in-toto Statement and
// exactly one signature.
//
// With a key it asks for no transparency log and no timestamp unless the key
// requires them. A certificate must have been valid when the signature was made,
// which a timestamp authority or a log has to prove; if it has expired since is
// no matter. An entry of a log that is known must be right in either case. What is
// dated in the future, and what its signer may not state, is refused.
//
// Errors are those for which Reason has a word.
func Verify(raw []byte, subjectDigest string, roots TrustRoots) (*Verified, error) {
	sum, err := subjectSum(subjectDigest)
	if err != nil {
		return nil, err
	}
	entity, err := parseEnvelope(raw)
	if err != nil {
		return nil, err
	}
	o := opened{entity: entity, artifact: verify.WithArtifactDigest("sha256", sum)}
	o.st, o.unreadable = ParseStatement(entity.GetDsseEnvelope().GetPayload())
	if o.unreadable != nil {
		o.st = guessStatement(entity.GetDsseEnvelope().GetPayload())
	}
	if !o.st.isAbout(subjectDigest) || o.unreadable != nil {
		// The signature is still looked at: it decides what the error is.
		o.artifact = verify.WithoutArtifactUnsafe()
	}
	return o.verify(subjectDigest, roots)
}

// UnreadableError means that a trusted signer made a statement about the subject which
// cannot be read. It is an ErrMalformed. Nothing in the statement may be believed, but it
// may be the signer's newest word.
type UnreadableError struct {
	// PredicateType is what the statement seems to be.
	PredicateType string
	// KeyID and SignTime are those of Verified.
	KeyID    string
	SignTime time.Time
	// Err says what cannot be read.
	Err error
}

func (e *UnreadableError) Error() string { return e.Err.Error() }

// Unwrap returns the ErrMalformed.
func (e *UnreadableError) Unwrap() error { return e.Err }

// opened is a bundle that is being verified.
type opened struct {
	entity *bundle.Bundle
	st     Statement
	times  statementTimes
	// artifact is what the signature has to be about in the eyes of sigstore-go.
	artifact verify.ArtifactPolicyOption
	// message is set if entity has the digest of what was signed and not the bytes.
	message *Payload
	// unreadable is why the statement cannot be read; st is a guess then.
	unreadable error
}

func (o opened) verify(subjectDigest string, roots TrustRoots) (v *Verified, err error) {
	if roots.At.IsZero() {
		roots.At = time.Now()
	}
	if o.unreadable == nil {
		o.times, o.unreadable = timesOf(o.st)
	}
	if o.entity.GetVerificationMaterial().GetPublicKey() != nil {
		v, err = o.verifyKeyed(roots)
	} else {
		v, err = o.verifyCertified(roots)
	}
	switch {
	case o.unreadable != nil && (err != nil || !o.st.isAbout(subjectDigest)):
		return nil, o.unreadable
	case o.unreadable != nil:
		return nil, &UnreadableError{PredicateType: o.st.PredicateType, KeyID: v.KeyID, SignTime: v.SignTime, Err: o.unreadable}
	case err != nil:
		return nil, err
	}
	if !o.st.isAbout(subjectDigest) {
		return nil, fmt.Errorf("%w: wanted %s", ErrWrongSubject, subjectDigest)
	}
	if err := o.times.check(v.SignTime, roots.At); err != nil {
		return nil, err
	}
	v.StatedTime, v.Time, v.LatestTime = o.times.stated, o.times.order(v.SignTime), o.times.latest
	v.Statement = o.st
	return v, nil
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
	entity, err := parseEnvelope(raw)
	if err != nil {
		return nil, Statement{}, err
	}
	st, err := ParseStatement(entity.GetDsseEnvelope().GetPayload())
	if err != nil {
		return nil, Statement{}, err
	}
	return entity, st, nil
}

// parseEnvelope reads a bundle without what its envelope holds.
func parseEnvelope(raw []byte) (*bundle.Bundle, error) {
	if len(raw) > MaxBundle {
		return nil, fmt.Errorf("%w: bundle of %d bytes exceeds the limit of %d", ErrTooLarge, len(raw), MaxBundle)
	}
	entity := &bundle.Bundle{Bundle: new(protobundle.Bundle)}
	if err := unmarshalBundle(raw, entity); err != nil {
		return nil, malformed("not a Sigstore bundle", err)
	}
	envelope := entity.GetDsseEnvelope()
	if err := checkEnvelope(envelope); err != nil {
		return nil, err
	}
	// No signature covers a key ID and everybody makes them in another way. It is a
	// hint at most, and sigstore-go passes over signatures whose hint is not its own.
	envelope.GetSignatures()[0].Keyid = ""
	return entity, nil
}

// unmarshalBundle reads a bundle that every reader understands alike.
func unmarshalBundle(raw []byte, into *bundle.Bundle) error {
	if err := strictjson.CheckMessage(raw, into.Bundle); err != nil {
		return err
	}
	return into.UnmarshalJSON(raw)
}

func checkEnvelope(e *protodsse.Envelope) error {
	if e == nil {
		return malformed("bundle without a DSSE envelope", nil)
	}
	if n := len(e.GetSignatures()); n != 1 {
		return malformed(fmt.Sprintf("envelope with %d signatures instead of one", n), nil)
	}
	if t := e.GetPayloadType(); t != PayloadType {
		return malformed(fmt.Sprintf("payload type %.100q", t), nil)
	}
	return nil
}

// Untrusted reads the statement of a bundle without verifying anything: to show
// what there is, never to decide by it.
func Untrusted(raw []byte) (Statement, error) {
	_, st, err := parseBundle(raw)
	return st, err
}
