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
	// PredicateSLSAProvenance says how and by whom the image was built.
	PredicateSLSAProvenance = "https://slsa.dev/provenance/v1"
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
	// MaxBundle is the largest bundle that is read or written. A bundle carries
	// its statement in base64.
	MaxBundle = 96 << 20
	// MaxStatement is the largest statement: an SBOM or a report of a very large image.
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
)

// Statement is an in-toto Statement, v1 or, if it was read, v0.1.
type Statement struct {
	Subject       []Subject
	PredicateType string
	// Predicate is one JSON value; Sign writes it without spaces, otherwise as it is.
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
	// KeyID is the ID of the trusted key that signed.
	KeyID string
	// ManifestDigest is the digest of the referrer the bundle came from, and
	// CreateTime what its annotation says. Neither is covered by the signature.
	// Verify leaves them empty; Referred.Verify fills them in.
	ManifestDigest string
	CreateTime     time.Time
}
