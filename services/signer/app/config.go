package app

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/guard"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstore"
)

// Config is the configuration of the signer.
type Config struct {
	service.Config `yaml:",inline"`
	// ScannerAddress is host:port of the scanner's gRPC server.
	ScannerAddress string `yaml:"scanner_address"`
	// VerifierAddress is host:port of the verifier's gRPC server.
	VerifierAddress string `yaml:"verifier_address"`
	// Registry names the registries that may be written to.
	Registry RegistryConfig `yaml:"registry"`
	// Keystore is where the signing key is.
	Keystore KeystoreConfig `yaml:"keystore"`
	// Identities are as what the signer signs, each claim as all of them. None means
	// the keys of the key store.
	Identities []IdentityConfig `yaml:"identities"`
	// Sigstore names the services and authorities of keyless identities and of
	// witnesses.
	Sigstore sigstore.Config `yaml:"sigstore"`
	// KMS are the limits of calls to each KMS.
	KMS guard.Limits `yaml:"kms"`
	// SBOM says which bills of materials are attached.
	SBOM SBOMConfig `yaml:"sbom"`
	// Lifetime says how long attestations last.
	Lifetime LifetimeConfig `yaml:"lifetime"`
	// VerifierID is the URI that names the verifier in verification summaries.
	// Consumers accept summaries of known pairs of key and verifier only.
	VerifierID string `yaml:"verifier_id"`
	// Concurrency is how many events of each kind are handled at a time.
	Concurrency int `yaml:"concurrency"`
	// MaxReport is the largest scan, with all its reports, that is fetched.
	MaxReport config.Bytes `yaml:"max_report"`
	// MaxSBOM is the largest bill of materials that is fetched.
	MaxSBOM config.Bytes `yaml:"max_sbom"`
}

// RegistryConfig says where attestations are written, and how.
type RegistryConfig struct {
	registry.Config `yaml:",inline"`
	// LegacyAttTag also writes what is signed with a key below the tag that clients
	// from before Sigstore bundles read.
	LegacyAttTag bool `yaml:"legacy_att_tag"`
	// MaxFailures is how many claims in a row a registry does not answer before it is
	// left alone for Cooldown.
	MaxFailures int           `yaml:"max_failures"`
	Cooldown    time.Duration `yaml:"cooldown"`
}

// KeystoreConfig names the signing key.
type KeystoreConfig struct {
	// Dir holds cosign.key and cosign.pub, and the records of revoked keys, those of a KMS
	// too.
	Dir string `yaml:"dir"`
	// Password encrypts cosign.key.
	Password config.Secret `yaml:"password"`
	// Algorithm of the keys that are made here: ecdsa-p256 or ed25519. A key that
	// is brought along may be of either kind.
	Algorithm keystore.Algorithm `yaml:"algorithm"`
	// Generate makes a key at the first start if there is none.
	Generate bool `yaml:"generate"`
}

// SBOMConfig says which bills of materials are attached.
type SBOMConfig struct {
	// Formats are spdx-json (SPDX 2.3), cyclonedx-json (CycloneDX 1.6) or both.
	Formats []core.SBOMFormat `yaml:"formats"`
}

// LifetimeConfig says when an attestation is renewed, and what becomes of the one
// that it supersedes.
type LifetimeConfig struct {
	// MaxAge is the age at which the same findings get a new attestation; 0 means never.
	MaxAge time.Duration `yaml:"max_age"`
	// DeleteSuperseded deletes superseded attestations from their registries.
	DeleteSuperseded bool `yaml:"delete_superseded"`
	// Grace is how long they stay there all the same.
	Grace time.Duration `yaml:"grace"`
	// SweepInterval is how often there is looked for them.
	SweepInterval time.Duration `yaml:"sweep_interval"`
	// KeepRegistries names registries on which nothing is deleted.
	KeepRegistries []string `yaml:"keep_registries"`
}

const (
	defaultVerifierID  = "https://seaworthy.dev/verifier"
	defaultConcurrency = 4
	maxConcurrency     = 256
	maxReport          = 256 << 20
	minGrace           = 10 * time.Minute
)

// Default is the configuration before any file, variable or flag.
func Default() Config {
	return Config{
		Config:          service.DefaultConfig(name),
		ScannerAddress:  "127.0.0.1:9101",
		VerifierAddress: "127.0.0.1:9103",
		Keystore:        KeystoreConfig{Dir: "seaworthy-signer-keys", Algorithm: keystore.ECDSAP256},
		SBOM:            SBOMConfig{Formats: []core.SBOMFormat{core.SPDXJSON}},
		Lifetime: LifetimeConfig{
			MaxAge: 24 * time.Hour, DeleteSuperseded: true, Grace: 7 * 24 * time.Hour, SweepInterval: 10 * time.Minute,
		},
		Registry:    RegistryConfig{MaxFailures: 10, Cooldown: 5 * time.Second},
		Sigstore:    defaultSigstore(),
		KMS:         defaultLimits(),
		VerifierID:  defaultVerifierID,
		Concurrency: defaultConcurrency,
		MaxReport:   64 << 20,
		MaxSBOM:     48 << 20,
	}
}

// Validate reports what is wrong with the signer's own part.
func (c *Config) Validate(p *config.Problems) {
	for _, a := range []struct{ key, address string }{
		{"scanner_address", c.ScannerAddress}, {"verifier_address", c.VerifierAddress},
	} {
		if _, _, err := net.SplitHostPort(a.address); err != nil {
			p.Errorf(a.key, "%q is not host:port", a.address)
		}
	}
	c.Registry.Validate(p.In("registry"))
	if c.Registry.MaxFailures < 1 {
		p.Errorf("registry.max_failures", "must be at least 1")
	}
	if c.Registry.Cooldown < 0 || c.Registry.Cooldown > maxCooldown {
		p.Errorf("registry.cooldown", "must be between 0 and %v", maxCooldown)
	}
	c.validateIdentities(p)
	// Revocations of KMS keys are recorded there too. Keyless identities have no key to revoke.
	if c.Keystore.Dir == "" && c.hasKeys() {
		p.Errorf("keystore.dir", "must be given")
	}
	if c.usesKeystore() {
		c.Keystore.validate(p.In("keystore"))
	}
	c.SBOM.validate(p.In("sbom"))
	c.Lifetime.validate(p.In("lifetime"), c.Registry.Registries)
	if c.Keystore.Generate && c.Database.Driver == sqldb.Postgres {
		p.Warnf("keystore.generate", "each replica without a shared keystore.dir makes a key of its own")
	}
	if u, err := url.Parse(c.VerifierID); err != nil || u.Scheme == "" {
		p.Errorf("verifier_id", "%q is not a URI", c.VerifierID)
	}
	if c.Concurrency < 1 || c.Concurrency > maxConcurrency {
		p.Errorf("concurrency", "must be between 1 and %d", maxConcurrency)
	}
	if c.MaxReport < 1<<20 || c.MaxReport > maxReport {
		p.Errorf("max_report", "must be between 1MiB and 256MiB")
	}
	if c.MaxSBOM < 1<<20 || c.MaxSBOM > attest.MaxDocument {
		p.Errorf("max_sbom", "must be between 1MiB and %v, the largest document", config.Bytes(attest.MaxDocument))
	}
}

func (c *SBOMConfig) validate(p *config.Problems) {
	if len(c.Formats) == 0 {
		p.Errorf("formats", "name at least one of %q and %q", core.SPDXJSON, core.CycloneDXJSON)
	}
	for i, f := range c.Formats {
		if f != core.SPDXJSON && f != core.CycloneDXJSON {
			p.Errorf(fmt.Sprintf("formats[%d]", i), "%q is neither %q nor %q", f, core.SPDXJSON, core.CycloneDXJSON)
		} else if slices.Contains(c.Formats[:i], f) {
			p.Errorf(fmt.Sprintf("formats[%d]", i), "%q stands twice", f)
		}
	}
	if !slices.Contains(c.Formats, core.SPDXJSON) {
		p.Warnf("formats", "the shipped policies ask for %s (%q): change them too", core.PredicateSPDX, core.SPDXJSON)
	}
}

func (c *LifetimeConfig) validate(p *config.Problems, registries []registry.Host) {
	if c.MaxAge < 0 {
		p.Errorf("max_age", "must not be negative")
	}
	// Verdicts name attestations that readers may be about to fetch, and clocks differ.
	if c.DeleteSuperseded && c.Grace < minGrace {
		p.Errorf("grace", "must be at least %v", minGrace)
	}
	if c.DeleteSuperseded && c.SweepInterval < time.Second {
		p.Errorf("sweep_interval", "must be at least 1s")
	}
	for i, host := range c.KeepRegistries {
		if !slices.ContainsFunc(registries, func(h registry.Host) bool { return h.Host == host }) {
			p.Errorf(fmt.Sprintf("keep_registries[%d]", i), "%q is not among registry.registries", host)
		}
	}
}

func (c *KeystoreConfig) validate(p *config.Problems) {
	if c.Algorithm != keystore.ECDSAP256 && c.Algorithm != keystore.Ed25519 {
		p.Errorf("algorithm", "%q is neither %q nor %q", c.Algorithm, keystore.ECDSAP256, keystore.Ed25519)
	}
	if c.Password.IsZero() {
		p.Errorf("password", "must be given: the key is always encrypted")
	}
	if c.Password.Value != "" {
		p.Warnf("password.value", "stands in the configuration: better name a file or an environment variable")
	}
}
