package policy

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

type trust struct {
	Signers []signer `yaml:"signers"`
}

type signer struct {
	Name       text       `yaml:"name"`
	Keys       []text     `yaml:"keys"`
	Identities []identity `yaml:"identities"`
}

type identity struct {
	Issuer        text `yaml:"issuer"`
	IssuerRegexp  text `yaml:"issuer_regexp"`
	Subject       text `yaml:"subject"`
	SubjectRegexp text `yaml:"subject_regexp"`
}

func (i identity) first() text {
	for _, t := range []text{i.Issuer, i.IssuerRegexp, i.Subject, i.SubjectRegexp} {
		if t.Line > 0 {
			return t
		}
	}
	return text{}
}

func (b *builder) environments(p *core.Policy, all []text) {
	if len(all) > MaxEnvironments {
		b.fault(under(all[0], "spec.environments"), "%d entries, more than %d", len(all), MaxEnvironments)
		return
	}
	for _, e := range all {
		switch {
		case !namePattern.MatchString(e.Value):
			b.fault(e, "an environment is named by 1 to 63 lower-case letters, digits and dashes")
		case slices.Contains(p.Environments, e.Value):
			b.fault(e, "%q is there twice", e.Value)
		default:
			p.Environments = append(p.Environments, e.Value)
		}
	}
	slices.Sort(p.Environments)
}

func (b *builder) trust(t *trust) *core.Trust {
	if len(t.Signers) == 0 || len(t.Signers) > MaxSigners {
		b.fault(text{Path: "spec.trust.signers"}, "1 to %d signers are needed; leave spec.trust out to believe every trust root", MaxSigners)
		return nil
	}
	out := &core.Trust{}
	for _, s := range t.Signers {
		if !namePattern.MatchString(s.Name.Value) {
			b.fault(s.Name, "must be 1 to 63 lower-case letters, digits and dashes")
		}
		if slices.ContainsFunc(out.Signers, func(o core.Signer) bool { return o.Name == s.Name.Value }) {
			b.fault(s.Name, "the name %q is used by another signer", s.Name.Value)
		}
		signer := strings.TrimSuffix(s.Name.Path, ".name")
		if len(s.Keys)+len(s.Identities) == 0 || len(s.Keys) > MaxSigners || len(s.Identities) > MaxSigners {
			b.fault(under(s.Name, signer), "signer %q: at least one key or identity is needed, and at most %d of each", s.Name.Value, MaxSigners)
		}
		made := core.Signer{Name: s.Name.Value}
		for _, k := range s.Keys {
			id, err := keyID(k.Value)
			if err != nil {
				b.fault(k, "signer %q: %v", s.Name.Value, err)
			}
			made.KeyIDs = append(made.KeyIDs, id)
		}
		made.Covers = b.identities(s)
		out.Signers = append(out.Signers, made)
	}
	return out
}

var keyIDPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// keyID takes the id of a key, or the key itself as PEM.
func keyID(s string) (string, error) {
	if keyIDPattern.MatchString(s) {
		return s, nil
	}
	block, rest := pem.Decode([]byte(s))
	if block == nil || block.Type != "PUBLIC KEY" || strings.TrimSpace(string(rest)) != "" {
		return "", errors.New("a key is the id of one, 64 hexadecimal digits, or one PUBLIC KEY in PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return "", errors.New("the PEM block holds no public key that is known")
	}
	return attest.KeyID(key), nil
}

// identities returns what tells whether a certificate is the signer's.
func (b *builder) identities(s signer) func(issuer, subject string) bool {
	var all []func(issuer, subject string) bool
	for n, i := range s.Identities {
		err := attest.TrustedIdentity{
			Issuer: i.Issuer.Value, IssuerRegexp: i.IssuerRegexp.Value, Subject: i.Subject.Value, SubjectRegexp: i.SubjectRegexp.Value,
		}.Validate()
		if err != nil {
			path := fmt.Sprintf("%s.identities[%d]", strings.TrimSuffix(s.Name.Path, ".name"), n)
			b.fault(under(orAt(i.first(), s.Name), path), "signer %q: %s", s.Name.Value, strings.ReplaceAll(err.Error(), "\n", "; "))
			continue
		}
		issuer, subject := whole(i.Issuer, i.IssuerRegexp), whole(i.Subject, i.SubjectRegexp)
		all = append(all, func(is, sub string) bool { return issuer(is) && subject(sub) })
	}
	return func(issuer, subject string) bool {
		return slices.ContainsFunc(all, func(covers func(string, string) bool) bool { return covers(issuer, subject) })
	}
}

// whole matches all of a text, exactly or by a pattern that has been validated.
func whole(exact, pattern text) func(string) bool {
	if exact.Value != "" {
		return func(s string) bool { return s == exact.Value }
	}
	re, err := regexp.Compile("^(?:" + pattern.Value + ")$")
	if err != nil {
		return func(string) bool { return false }
	}
	return re.MatchString
}
