package app

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/guard"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstore"
)

// Types of identities.
const (
	// TypeKey signs with the keys of the key store.
	TypeKey = "key"
	// TypeKMS signs with a key that a KMS holds.
	TypeKMS = "kms"
	// TypeKeyless signs with a certificate for each signature.
	TypeKeyless = "keyless"
)

// Witnesses of signatures.
const (
	// WitnessLog is an entry in a transparency log.
	WitnessLog = "log"
	// WitnessTimestamp is a timestamp of an authority.
	WitnessTimestamp = "timestamp"
)

// IdentityConfig is as what the signer signs.
type IdentityConfig struct {
	// Name tells identities apart, in the signing log above all.
	Name string `yaml:"name"`
	// Type is key, kms or keyless.
	Type string `yaml:"type"`
	// Witnesses are what is added to each signature: log, timestamp or both. They
	// are asked for at the services of sigstore.signing_config.
	Witnesses []string `yaml:"witnesses"`
	// Key is the URI of a key in a KMS, such as awskms:///alias/signer.
	Key string `yaml:"key"`
	// Issuer and Subject are whom the certificates of a keyless identity are for.
	Issuer  string `yaml:"issuer"`
	Subject string `yaml:"subject"`
	// Token is where the identity token of a keyless identity is read, for each
	// signature anew.
	Token config.Secret `yaml:"token"`
}

func (c *IdentityConfig) has(witness string) bool { return slices.Contains(c.Witnesses, witness) }

const (
	maxIdentities = 8
	maxCooldown   = time.Hour
)

// keyPattern bounds what becomes the name of a program.
var keyPattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}://.{1,1000}$`)

var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (c *Config) validateIdentities(p *config.Problems) {
	if len(c.Identities) > maxIdentities {
		p.Errorf("identities", "there are %d, the limit is %d", len(c.Identities), maxIdentities)
	}
	names, keys, witnessed := map[string]bool{}, 0, false
	for i := range c.Identities {
		id, q := &c.Identities[i], p.In(fmt.Sprintf("identities[%d]", i))
		id.validate(q)
		if names[id.Name] {
			q.Errorf("name", "%q is used twice", id.Name)
		}
		names[id.Name] = true
		if id.Type == TypeKey {
			if keys++; keys == 2 {
				q.Errorf("type", "only one identity can be of type key: there is one key store")
			}
			if id.has(WitnessLog) && c.Keystore.Algorithm == keystore.Ed25519 {
				q.Errorf("witnesses", "transparency logs take no Ed25519 signatures: set keystore.algorithm to ecdsa-p256")
			}
		}
		witnessed = witnessed || id.Type == TypeKeyless || len(id.Witnesses) > 0
	}
	switch {
	case witnessed && (c.Sigstore.SigningConfig == "" || c.Sigstore.TrustedRoot == ""):
		p.Errorf("sigstore", "signing_config and trusted_root must be given: an identity is keyless or has witnesses")
	case !witnessed && !c.Sigstore.IsZero():
		p.Warnf("sigstore", "is not used: no identity is keyless or has witnesses")
	}
	validateLimits(p.In("kms"), c.KMS)
	for name, l := range map[string]guard.Limits{"fulcio": c.Sigstore.Fulcio, "rekor": c.Sigstore.Rekor, "timestamp": c.Sigstore.Timestamp} {
		validateLimits(p.In("sigstore").In(name), l)
	}
}

func validateLimits(p *config.Problems, l guard.Limits) {
	if l.Timeout < 100*time.Millisecond || l.Timeout > 5*time.Minute {
		p.Errorf("timeout", "must be between 100ms and 5m")
	}
	if l.Attempts < 1 || l.Attempts > 10 {
		p.Errorf("attempts", "must be between 1 and 10")
	}
	if l.MaxFailures < 1 {
		p.Errorf("max_failures", "must be at least 1")
	}
	if l.Cooldown < 0 || l.Cooldown > maxCooldown {
		p.Errorf("cooldown", "must be between 0 and %v", maxCooldown)
	}
}

func (c *IdentityConfig) validate(p *config.Problems) {
	if !namePattern.MatchString(c.Name) {
		p.Errorf("name", "%q is not 1 to 63 lower-case letters, digits and dashes", c.Name)
	}
	for i, w := range c.Witnesses {
		if w != WitnessLog && w != WitnessTimestamp || slices.Contains(c.Witnesses[:i], w) {
			p.Errorf(fmt.Sprintf("witnesses[%d]", i), "want %q or %q, each once", WitnessLog, WitnessTimestamp)
		}
	}
	if c.Type != TypeKeyless && (c.Issuer != "" || c.Subject != "" || !c.Token.IsZero()) {
		p.Errorf("type", "issuer, subject and token are for type %s", TypeKeyless)
	}
	if c.Type != TypeKMS && c.Key != "" {
		p.Errorf("key", "is for type %s", TypeKMS)
	}
	switch c.Type {
	case TypeKey:
	case TypeKMS:
		if !keyPattern.MatchString(c.Key) {
			p.Errorf("key", "%q is not the URI of a key in a KMS, such as awskms:///alias/signer", c.Key)
		}
	case TypeKeyless:
		c.validateKeyless(p)
	default:
		p.Errorf("type", "%q is none of %q, %q and %q", c.Type, TypeKey, TypeKMS, TypeKeyless)
	}
}

func (c *IdentityConfig) validateKeyless(p *config.Problems) {
	whom := attest.TrustedIdentity{Issuer: c.Issuer, Subject: c.Subject}
	if err := whom.Validate(); err != nil {
		p.Errorf("issuer", "and subject say for whom the certificates are: %v", err)
	}
	if c.Token.IsZero() {
		p.Errorf("token", "must be given: file or env")
	}
	if c.Token.Value != "" {
		p.Errorf("token.value", "a token expires within minutes: name a file or an environment variable")
	}
	if len(c.Witnesses) == 0 {
		p.Errorf("witnesses", "a certificate lasts minutes: without log or timestamp nothing proves that it was used in time")
	}
}

func defaultLimits() guard.Limits {
	return guard.Limits{Timeout: 10 * time.Second, Attempts: 3, MaxFailures: 5, Cooldown: 30 * time.Second}
}

func defaultSigstore() sigstore.Config {
	c := sigstore.Config{Fulcio: defaultLimits(), Rekor: defaultLimits(), Timestamp: defaultLimits()}
	// A log answers when it has written its next checkpoint.
	c.Rekor.Timeout, c.Rekor.Attempts = 20*time.Second, 2
	return c
}
