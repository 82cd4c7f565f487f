package attest

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"regexp"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"
)

// certified is a bundle that was signed with a certificate.
type certified struct {
	entity   *bundle.Bundle
	leaf     *x509.Certificate
	issuer   string
	subject  string
	material root.TrustedMaterial
	witnesses
}

// readCertified reads the certificate; who is in it is only claimed.
func readCertified(entity *bundle.Bundle, r *SigstoreRoot) (*certified, error) {
	content, err := entity.VerificationContent()
	if err != nil {
		return nil, malformed("certificate", err)
	}
	c := &certified{entity: entity, leaf: content.Certificate(), material: r.material}
	summary, err := certificate.SummarizeCertificate(c.leaf)
	if err != nil {
		return nil, malformed("certificate", err)
	}
	c.issuer, c.subject = summary.Issuer, summary.SubjectAlternativeName
	c.witnesses, err = findWitnesses(entity, r)
	return c, err
}

// verifyCertified verifies a bundle that was signed with a certificate: the chain
// and its validity when the signature was made, who it names, and what the
// identity requires.
func (o opened) verifyCertified(roots TrustRoots) (*Verified, error) {
	entity, artifact := o.entity, o.artifact
	if len(roots.Identities) == 0 || roots.Sigstore == nil {
		return nil, fmt.Errorf("%w: it is signed with a certificate, and no identity is trusted", ErrUntrustedKey)
	}
	if len(roots.Identities) > MaxTrustedIdentities {
		return nil, fmt.Errorf("%w: %d trusted identities, the limit is %d", ErrTooLarge, len(roots.Identities), MaxTrustedIdentities)
	}
	c, err := readCertified(entity, roots.Sigstore)
	if err != nil {
		return nil, err
	}
	var first error
	logged := roots.Sigstore.wantsSCT(c.leaf)
	for _, i := range roots.Identities {
		if !i.covers(c.issuer, c.subject) {
			continue
		}
		id := i.id()
		i.RequireSCT = i.RequireSCT || logged
		signed, err := c.verify(artifact, i)
		if err == nil && !mayState(i.States, o.st.PredicateType) {
			err = fmt.Errorf("%w: %.200q by %.200q, predicate type %.200q", ErrNotAllowed, c.subject, c.issuer, o.st.PredicateType)
		}
		if err == nil {
			return &Verified{
				KeyID: id, Identity: c.subject, Issuer: c.issuer, SignTime: signed, LogIndex: c.index(),
			}, nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		return nil, fmt.Errorf("%w: the certificate is of %.200q by %.200q", ErrUntrustedIdentity, c.subject, c.issuer)
	}
	return nil, first
}

// verify decides, and gives the proven time of signing.
func (c *certified) verify(artifact verify.ArtifactPolicyOption, i TrustedIdentity) (time.Time, error) {
	options, err := c.options(i.RequireLog)
	if err != nil {
		if foreign := c.foreign(); foreign != nil {
			err = foreign
		}
		return time.Time{}, err
	}
	options = append(options, verify.WithoutStatementPredicate())
	if i.RequireTimestamp {
		options = append(options, verify.WithSignedTimestamps(1))
	} else {
		options = append(options, verify.WithObserverTimestamps(1))
	}
	if i.RequireSCT {
		options = append(options, verify.WithSignedCertificateTimestamps(1))
	}
	verifier, err := verify.NewVerifier(c.material, options...)
	if err != nil {
		return time.Time{}, err
	}
	// The rule matched already; this names the one certificate that it matched.
	exactly, err := verify.NewShortCertificateIdentity("", `^`+regexp.QuoteMeta(c.issuer)+`$`, c.subject, "")
	if err != nil {
		return time.Time{}, malformed("certificate", err)
	}
	result, err := verifier.Verify(c.entity, verify.NewPolicy(artifact, verify.WithCertificateIdentity(exactly)))
	if err != nil {
		return time.Time{}, c.diagnose(err, artifact, i)
	}
	times := make([]time.Time, 0, len(result.VerifiedTimestamps))
	for _, t := range result.VerifiedTimestamps {
		times = append(times, t.Timestamp)
	}
	return earliest(times), nil
}

// foreign is an error if no trusted authority ever issued the certificate.
func (c *certified) foreign() error {
	if _, err := verify.VerifyLeafCertificate(c.leaf.NotBefore, c.leaf, c.material); err != nil {
		return fmt.Errorf("%w: no trusted authority issued the certificate of %.200q", ErrUntrustedIdentity, c.subject)
	}
	return nil
}

// diagnose finds the kind of a refusal. It never accepts anything.
func (c *certified) diagnose(cause error, artifact verify.ArtifactPolicyOption, i TrustedIdentity) error {
	if err := c.foreign(); err != nil {
		return err
	}
	if !c.signed() {
		return fmt.Errorf("%w: %w", ErrBadSignature, cause)
	}
	for _, e := range c.known {
		if t := e.IntegratedTime(); !t.IsZero() && c.expired(t) {
			return c.expiredAt(t)
		}
	}
	if len(c.known) > 0 {
		if _, err := verify.VerifyTlogEntry(c.entity, c.material, len(c.known), true); err != nil {
			return fmt.Errorf("%w: the entry in the bundle is wrong: %w", ErrNoLogEntry, err)
		}
	}
	w := c.witnesses
	if i.RequireTimestamp {
		w.known = nil
	}
	times := w.times(c.entity, c.material)
	if len(times) == 0 {
		return fmt.Errorf("%w: %w", ErrNoTimestamp, cause)
	}
	for _, t := range times {
		if c.expired(t) {
			return c.expiredAt(t)
		}
	}
	if i.RequireSCT {
		without := i
		without.RequireSCT = false
		if _, err := c.verify(artifact, without); err == nil {
			return fmt.Errorf("%w: %w", ErrNoSCT, cause)
		}
	}
	return fmt.Errorf("%w: %w", ErrBadSignature, cause)
}

func (c *certified) expired(at time.Time) bool {
	_, err := verify.VerifyLeafCertificate(at, c.leaf, c.material)
	return err != nil
}

func (c *certified) expiredAt(t time.Time) error {
	return fmt.Errorf("%w: signed at %s, the certificate was valid from %s to %s", ErrExpiredCertificate,
		t.UTC().Format(time.RFC3339), c.leaf.NotBefore.UTC().Format(time.RFC3339), c.leaf.NotAfter.UTC().Format(time.RFC3339))
}

// signed says whether the certificate's key made the signature.
func (c *certified) signed() bool {
	verifier, err := signature.LoadDefaultVerifier(c.leaf.PublicKey)
	if err != nil {
		return false
	}
	if m := c.entity.GetMessageSignature(); m != nil {
		digest := options.WithDigest(m.GetMessageDigest().GetDigest())
		return verifier.VerifySignature(bytes.NewReader(m.GetSignature()), nil, digest) == nil
	}
	envelope := c.entity.GetDsseEnvelope()
	pae := dsse.PAE(envelope.GetPayloadType(), envelope.GetPayload())
	return verifier.VerifySignature(bytes.NewReader(envelope.GetSignatures()[0].GetSig()), bytes.NewReader(pae)) == nil
}
