package attest

import (
	"encoding/json"
	"errors"
	"time"
)

// Predicate types that Seaworthy writes or reads.
const (
	PredicateSPDX       = "https://spdx.dev/Document"
	PredicateCycloneDX  = "https://cyclonedx.org/bom"
	PredicateVulnsV02   = "https://in-toto.io/attestation/vulns/v0.2"
	PredicateCosignVuln = "https://cosign.sigstore.dev/attestation/vuln/v1"
	PredicateVSA        = "https://slsa.dev/verification_summary/v1"
	PredicateOpenVEX    = "https://openvex.dev/ns"
	// PredicateReference, attached to an index, says which of its manifests have evidence.
	PredicateReference = "https://in-toto.io/attestation/reference/v0.1"
	// PredicateSLSAProvenance says how and by whom the image was built.
	PredicateSLSAProvenance = "https://slsa.dev/provenance/v1"
	// PredicateSLSAProvenanceV02 is the same in its form before version 1.
	PredicateSLSAProvenanceV02 = "https://slsa.dev/provenance/v0.2"
	// PredicateCosignSign is what `cosign sign` states about an image. It has no
	// predicate: the signature is all there is.
	PredicateCosignSign = "https://sigstore.dev/cosign/sign/v1"
)

const (
	// BundleMediaType is the type of the bundles this package writes.
	BundleMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	// StatementType is the `_type` of an in-toto Statement v1.
	StatementType = "https://in-toto.io/Statement/v1"
	// StatementTypeV01 is the `_type` that cosign v3 still writes. It is read like
	// v1, which has the same fields, and never written.
	StatementTypeV01 = "https://in-toto.io/Statement/v0.1"
	// PayloadType is the DSSE payload type of in-toto statements.
	PayloadType = "application/vnd.in-toto+json"
)

// Annotations of the manifest of an attached bundle, as cosign v3 writes them.
const (
	AnnotationContent       = "dev.sigstore.bundle.content"
	AnnotationPredicateType = "dev.sigstore.bundle.predicateType"
	AnnotationCreated       = "org.opencontainers.image.created"

	contentDSSE = "dsse-envelope"
)

// Limits of the formats. Over them is ErrTooLarge.
const (
	// MaxBundle is the largest bundle that is read, or written in one piece. A bundle
	// carries its statement in base64.
	MaxBundle = 96 << 20
	// MaxStatement is the largest statement that is in memory: an SBOM or a report of a
	// very large image. That of a document may be larger, see MaxDocument.
	MaxStatement = 64 << 20
	// MaxSubjects is the largest number of subjects of one statement.
	MaxSubjects = 1024
)

// The kinds of failure; test with errors.Is.
var (
	// ErrMalformed: not a bundle, envelope or statement of the kind this package accepts.
	ErrMalformed = errors.New("attestation is malformed")
	// ErrUntrustedKey: no trusted key made the signature, or the key was not valid
	// then. Nothing in the bundle may be believed.
	ErrUntrustedKey = errors.New("attestation is not signed with a trusted key")
	// ErrBadSignature: the bundle names a trusted key, but the signature is not its.
	ErrBadSignature = errors.New("signature of the attestation is wrong")
	// ErrWrongSubject: the signature is good, but the statement is about something else.
	ErrWrongSubject = errors.New("attestation is about another subject")
	// ErrTooLarge: over a limit of size or count.
	ErrTooLarge = errors.New("attestation is too large")
	// ErrUntrustedIdentity: the certificate is of somebody, or by an authority,
	// that is not trusted. Nothing in the bundle may be believed.
	ErrUntrustedIdentity = errors.New("attestation is not signed by a trusted identity")
	// ErrExpiredCertificate: signed before or after the certificate was valid.
	ErrExpiredCertificate = errors.New("certificate of the attestation was not valid when it was signed")
	// ErrNoLogEntry: an entry in a trusted transparency log is required and
	// missing, or the one that is there is wrong.
	ErrNoLogEntry = errors.New("attestation is not in a trusted transparency log")
	// ErrNoTimestamp: nobody who is trusted says when it was signed.
	ErrNoTimestamp = errors.New("attestation has no trusted time of signing")
	// ErrNoSCT: the certificate is required to be in a trusted log of
	// certificates and is not.
	ErrNoSCT = errors.New("certificate of the attestation is not in a trusted log of certificates")
	// ErrNotAllowed: the signature is by a trusted key or identity, which may not
	// state predicates of this type.
	ErrNotAllowed = errors.New("the signer of the attestation may not state this predicate type")
	// ErrFuture: the statement is dated later than ClockSkew from now, or later than
	// ClockSkew after the proven time of its signature.
	ErrFuture = errors.New("attestation is dated in the future")
)

// Reason is a short word for the kind of err, fit for a metric or a reason code:
// MALFORMED, TOO_LARGE, UNTRUSTED_KEY, BAD_SIGNATURE, WRONG_SUBJECT,
// UNTRUSTED_IDENTITY, EXPIRED_CERTIFICATE, NO_LOG_ENTRY, NO_TIMESTAMP, NO_SCT,
// PREDICATE_NOT_ALLOWED, IN_FUTURE or "" for others.
func Reason(err error) string {
	for _, k := range []struct {
		kind   error
		reason string
	}{
		{ErrTooLarge, "TOO_LARGE"},
		{ErrMalformed, "MALFORMED"},
		{ErrUntrustedKey, "UNTRUSTED_KEY"},
		{ErrUntrustedIdentity, "UNTRUSTED_IDENTITY"},
		{ErrBadSignature, "BAD_SIGNATURE"},
		{ErrWrongSubject, "WRONG_SUBJECT"},
		{ErrExpiredCertificate, "EXPIRED_CERTIFICATE"},
		{ErrNoLogEntry, "NO_LOG_ENTRY"},
		{ErrNoTimestamp, "NO_TIMESTAMP"},
		{ErrNoSCT, "NO_SCT"},
		{ErrNotAllowed, "PREDICATE_NOT_ALLOWED"},
		{ErrFuture, "IN_FUTURE"},
	} {
		if errors.Is(err, k.kind) {
			return k.reason
		}
	}
	return ""
}

// Statement is an in-toto Statement, v1 or, if it was read, v0.1.
type Statement struct {
	Subject       []Subject
	PredicateType string
	// Predicate is one JSON object; Sign writes it without spaces, otherwise as it is.
	// It is nil if the statement that was read has none.
	Predicate json.RawMessage
}

// Subject is what a statement is about.
type Subject struct {
	// Name is for readers, for example `registry.example/app`; it decides nothing.
	Name string
	// SHA256 is the digest without its prefix: 64 lower-case hex digits.
	SHA256 string
}

// Verified is a statement whose signature, key, type and subject were checked.
type Verified struct {
	Statement
	// KeyID is the ID of the trusted key that signed, or of the trusted identity
	// that covers the certificate.
	KeyID string
	// Identity is the subject of the certificate and Issuer who vouched for it;
	// both are empty for a key.
	Identity, Issuer string
	// SignTime is when the signature existed at the latest, as a trusted timestamp
	// authority or log says. It is zero for a key of which nothing proves it.
	SignTime time.Time
	// StatedTime is that of the statement.
	StatedTime time.Time
	// Time is what statements of one signer are ordered by: the time that the
	// statement states, but never later than SignTime; SignTime if it states none.
	Time time.Time
	// LatestTime is the latest time in the statement at which something was done; zero if
	// it names none.
	LatestTime time.Time
	// LogIndex is the place in a trusted transparency log; nil if it is in none.
	LogIndex *int64
	// ManifestDigest is the digest of the referrer the bundle came from, and
	// CreateTime what its annotation says. Neither is covered by the signature.
	// Verify leaves them empty; Referred.Verify fills them in.
	ManifestDigest string
	CreateTime     time.Time
}
