package attest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

// Limits of trusted identities.
const (
	// MaxTrustedIdentities is the largest number of identities of one TrustRoots.
	MaxTrustedIdentities = 256
	// MaxIdentityPattern bounds each issuer, subject and pattern, in bytes.
	MaxIdentityPattern = 1024
)

// TrustedIdentity says whose certificates are believed: of whom an issuer of
// identity tokens said that it is them, to a certificate authority of the
// SigstoreRoot.
type TrustedIdentity struct {
	// ID names the identity in results, as that of a TrustedKey does; empty means
	// one that is made of all that is below, so that another rule has another ID.
	ID string
	// Issuer is the URL of the OpenID Connect issuer in the certificate.
	// IssuerRegexp, which is RE2 and must match all of it, is for many of them.
	// Exactly one of the two is given.
	Issuer, IssuerRegexp string
	// Subject is the subject alternative name: an email address, or a URI such as
	// that of a workflow or a SPIFFE ID. SubjectRegexp is as IssuerRegexp.
	// Exactly one of the two is given.
	Subject, SubjectRegexp string
	// RequireLog demands an entry in a transparency log of the SigstoreRoot.
	RequireLog bool
	// RequireTimestamp demands a timestamp by an authority of the SigstoreRoot;
	// without it the time at which a log took in the signature is enough.
	RequireTimestamp bool
	// RequireSCT demands that the certificate was logged in a certificate
	// transparency log of the SigstoreRoot. It is demanded without it too if the
	// trusted root that names the certificate's authority names such a log.
	RequireSCT bool
	// States are the predicate types that the identity may state; nil is any. They
	// are no part of the ID, see TrustRoots.Believes.
	States []string
}

// Validate says what is wrong with the identity, all at once.
func (i TrustedIdentity) Validate() error {
	return errors.Join(
		validateMatch("issuer", i.Issuer, i.IssuerRegexp),
		validateMatch("subject", i.Subject, i.SubjectRegexp),
	)
}

func validateMatch(what, exact, pattern string) error {
	switch {
	case exact == "" && pattern == "":
		return fmt.Errorf("%s or %s_regexp must be given", what, what)
	case exact != "" && pattern != "":
		return fmt.Errorf("only one of %s and %s_regexp may be given", what, what)
	case len(exact)+len(pattern) > MaxIdentityPattern:
		return fmt.Errorf("%s has more than %d bytes", what, MaxIdentityPattern)
	}
	if _, err := anchored(pattern); err != nil {
		return fmt.Errorf("%s_regexp: %w", what, err)
	}
	return nil
}

// anchored compiles a pattern that matches the whole text or nothing: one that
// matches somewhere in the middle believes more than its author meant.
func anchored(pattern string) (*regexp.Regexp, error) {
	// By itself first: `)|(` must not reach out of the group.
	if _, err := regexp.Compile(pattern); err != nil {
		return nil, err
	}
	return regexp.Compile(`^(?:` + pattern + `)$`)
}

func matches(exact, pattern, text string) bool {
	if exact != "" {
		return exact == text
	}
	re, err := anchored(pattern)
	return err == nil && pattern != "" && re.MatchString(text)
}

// covers says whether a certificate of this issuer and subject is meant. What
// does not validate covers nobody.
func (i TrustedIdentity) covers(issuer, subject string) bool {
	return i.Validate() == nil && matches(i.Issuer, i.IssuerRegexp, issuer) && matches(i.Subject, i.SubjectRegexp, subject)
}

// Rule is an ID that is made of the rule, without its States, and of the authorities by
// whom its certificates are.
func (i TrustedIdentity) Rule(authorities *SigstoreRoot) string {
	i.ID = ""
	if authorities == nil {
		return i.id()
	}
	sum := sha256.Sum256([]byte(i.id() + " " + authorities.Digest()))
	return "identity-" + hex.EncodeToString(sum[:])
}

func (i TrustedIdentity) id() string {
	if i.ID != "" {
		return i.ID
	}
	h := sha256.New()
	for _, s := range []string{
		i.Issuer, i.IssuerRegexp, i.Subject, i.SubjectRegexp,
		fmt.Sprint(i.RequireLog, i.RequireTimestamp, i.RequireSCT),
	} {
		h.Write([]byte(strconv.Itoa(len(s)) + ":" + s))
	}
	return "identity-" + hex.EncodeToString(h.Sum(nil))
}
