package app

import (
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/exception"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
)

// Config is the configuration of the verifier.
type Config struct {
	service.Config `yaml:",inline"`

	// Registry says which registries evidence is read from. Reading is enough.
	Registry registry.Config `yaml:"registry"`
	Policies PoliciesConfig  `yaml:"policies"`
	// Exceptions come from files and from the API.
	Exceptions ExceptionsConfig `yaml:"exceptions"`
	Trust      TrustConfig      `yaml:"trust"`
	// Vex says whose VEX documents count.
	Vex    VexConfig    `yaml:"vex"`
	Limits LimitsConfig `yaml:"limits"`
	// Evidence says how long evidence is looked for that is not there yet.
	Evidence EvidenceConfig `yaml:"evidence"`
	// ScannerAddress is the scanner's gRPC address, which is asked what a new report says.
	// It is required.
	ScannerAddress string `yaml:"scanner_address"`
	// Overdue says how long a verdict may outlive a newer report.
	Overdue OverdueConfig `yaml:"overdue"`
	// Concurrency is the number of images judged at a time.
	Concurrency int `yaml:"concurrency"`
}

// PoliciesConfig says which policies come with the configuration. They are in force
// together with those of the API.
type PoliciesConfig struct {
	// Builtin names policy packs that come with the verifier.
	Builtin []string `yaml:"builtin"`
	// Dir is a directory; its .yaml and .yml files are read, not its
	// subdirectories.
	Dir string `yaml:"dir"`
	// Files are single files.
	Files []string `yaml:"files"`
	// Refresh is the time between looks at the files; a change is taken over when two
	// looks in a row see the same.
	Refresh time.Duration `yaml:"refresh"`
}

func (c PoliciesConfig) source() policy.Source {
	return policy.Source{Builtin: c.Builtin, Dir: c.Dir, Files: c.Files}
}

// ExceptionsConfig says which files hold exceptions. They are read at start, next
// to those that were created through the API.
type ExceptionsConfig struct {
	// Dir is a directory; its .yaml and .yml files are read, not its
	// subdirectories.
	Dir string `yaml:"dir"`
	// Files are single files.
	Files []string `yaml:"files"`
}

// TrustConfig says whose signatures are evidence.
type TrustConfig struct {
	// Keys are PEM files of public keys of those who build images: they may state SLSA
	// provenance and sign images, and nothing else. Who states more is in Roots.
	Keys []string `yaml:"keys"`
	// SignerAddress is the signer's gRPC address: its trust bundle is trusted too.
	// Empty asks no signer.
	SignerAddress string `yaml:"signer_address"`
	// Refresh is the time between looks at the trust bundle.
	Refresh time.Duration `yaml:"refresh"`
	// Identities may state what Keys may, by certificates of the authorities of
	// SigstoreRoot.
	Identities []IdentityConfig `yaml:"identities"`
	// Roots are keys and identities that name the predicate types they may state.
	Roots []RootConfig `yaml:"roots"`
	// SigstoreRoot is the file of a Sigstore trusted root, trusted_root.json.
	SigstoreRoot string `yaml:"sigstore_root"`
}

// EvidenceConfig says how the verifier looks for evidence that is attached late.
type EvidenceConfig struct {
	// Patience is how long the registry is read again, more and more seldom, while
	// evidence that a policy requires is missing.
	Patience time.Duration `yaml:"patience"`
	// LookConcurrency is the number of images whose registry is read again at a time.
	LookConcurrency int `yaml:"look_concurrency"`
}

// OverdueConfig says how long a verdict may rest on evidence while a newer scan report
// differs. After that it is UNKNOWN.
type OverdueConfig struct {
	// OvertakenAfter counts once a report from a later scan was judged for another image:
	// then the pipeline works, and this image is what does not.
	OvertakenAfter time.Duration `yaml:"overtaken_after"`
	// After counts in any case.
	After time.Duration `yaml:"after"`
}

// LimitsConfig bounds what evidence may cost.
type LimitsConfig struct {
	// MaxAttestations attached to one platform manifest.
	MaxAttestations int `yaml:"max_attestations"`
	// MaxAttestation is the size of one attestation.
	MaxAttestation config.Bytes `yaml:"max_attestation"`
	// MaxAttestationsTotal is the size of all attestations of one platform manifest.
	MaxAttestationsTotal config.Bytes `yaml:"max_attestations_total"`
	// VerificationCache is the memory for attestations that were verified.
	VerificationCache config.Bytes `yaml:"verification_cache"`
	// VerdictCache is the memory for verdicts that are kept ready for whoever asks.
	VerdictCache config.Bytes `yaml:"verdict_cache"`
	// EvidenceCache is the memory for recorded evidence that was decoded, roughly: the
	// next change of the rules, and what is tried before it, judge by it.
	EvidenceCache config.Bytes `yaml:"evidence_cache"`
}

// Default returns the configuration before any file is read.
func Default() Config {
	return Config{
		Config:   service.DefaultConfig(name),
		Policies: PoliciesConfig{Builtin: []string{"baseline"}, Refresh: 5 * time.Second},
		Trust:    TrustConfig{Refresh: 5 * time.Second},
		Evidence: EvidenceConfig{Patience: 24 * time.Hour, LookConcurrency: 4},
		Limits: LimitsConfig{
			MaxAttestations: registry.DefaultMaxReferrers, MaxAttestation: 64 << 20,
			MaxAttestationsTotal: attest.DefaultMaxTotal, VerificationCache: 64 << 20, VerdictCache: 64 << 20, EvidenceCache: 64 << 20,
		},
		Overdue:     OverdueConfig{OvertakenAfter: time.Hour, After: 6 * time.Hour},
		Concurrency: 4,
	}
}

// Validate reports what is wrong with the verifier's own part.
func (c *Config) Validate(p *config.Problems) {
	c.Registry.Validate(p.In("registry"))
	c.validatePolicies(p.In("policies"))
	if _, err := exception.Load(c.Exceptions.Dir, c.Exceptions.Files); err != nil {
		p.In("exceptions").Errorf("", "%v", err)
	}
	t := p.In("trust")
	if len(c.Trust.Keys) == 0 && len(c.Trust.Identities) == 0 && len(c.Trust.Roots) == 0 && c.Trust.SignerAddress == "" {
		t.Errorf("signer_address", "without a signer, keys or identities no evidence can be verified")
	}
	validateIdentities(t, c.Trust.Identities, c.Trust.SigstoreRoot)
	names := map[string]bool{}
	for i := range c.Trust.Roots {
		c.Trust.Roots[i].validate(t, names, c.Trust.SigstoreRoot)
	}
	if _, err := c.Trust.fixedRoots(); err != nil {
		t.Errorf("keys", "%v", err)
	}
	if _, _, err := sigstoreRoot(c.Trust.SigstoreRoot); err != nil {
		t.Errorf("sigstore_root", "%v", err)
	}
	if c.ScannerAddress == "" {
		p.Errorf("scanner_address", "the scanner's address is needed, to ask what new scan reports say")
	}
	o := p.In("overdue")
	if c.Overdue.OvertakenAfter < time.Minute {
		o.Errorf("overtaken_after", "%s is less than 1m", c.Overdue.OvertakenAfter)
	}
	if c.Overdue.After < c.Overdue.OvertakenAfter {
		o.Errorf("after", "%s is less than overtaken_after, %s", c.Overdue.After, c.Overdue.OvertakenAfter)
	}
	c.validateVex(p.In("vex"))
	if c.Trust.Refresh < time.Second {
		t.Errorf("refresh", "%s is less than 1s", c.Trust.Refresh)
	}
	l := p.In("limits")
	for _, limit := range []struct {
		key   string
		value int64
	}{
		{"max_attestations", int64(c.Limits.MaxAttestations)},
		{"max_attestation", int64(c.Limits.MaxAttestation)},
		{"max_attestations_total", int64(c.Limits.MaxAttestationsTotal)},
	} {
		if limit.value <= 0 {
			l.Errorf(limit.key, "must be more than zero")
		}
	}
	if c.Limits.VerificationCache < 0 {
		l.Errorf("verification_cache", "must not be negative")
	}
	if c.Limits.VerdictCache < 0 {
		l.Errorf("verdict_cache", "must not be negative")
	}
	if c.Limits.EvidenceCache < 0 {
		l.Errorf("evidence_cache", "must not be negative")
	}
	if c.Evidence.Patience < time.Minute || c.Evidence.Patience > 30*24*time.Hour {
		p.In("evidence").Errorf("patience", "%s is not between 1m and 720h", c.Evidence.Patience)
	}
	if n := c.Evidence.LookConcurrency; n < 1 || n > 64 {
		p.In("evidence").Errorf("look_concurrency", "%d is not between 1 and 64", n)
	}
	if c.Concurrency < 1 || c.Concurrency > 256 {
		p.Errorf("concurrency", "%d is not between 1 and 256", c.Concurrency)
	}
}

func (c *Config) validatePolicies(p *config.Problems) {
	if len(c.Policies.Builtin) == 0 && c.Policies.Dir == "" && len(c.Policies.Files) == 0 {
		p.Warnf("builtin", "there is no policy: until one is created through the API every verdict will be UNKNOWN")
	}
	if c.Policies.Refresh < time.Second {
		p.Errorf("refresh", "%s is less than 1s", c.Policies.Refresh)
	}
	// Reading them here lets --check find a faulty policy before it is rolled out.
	files, err := c.Policies.source().Read()
	if err == nil {
		var loader *policy.Loader
		if loader, err = policy.NewLoader(); err == nil {
			_, err = loader.ParseFiles(files)
		}
	}
	if err != nil {
		p.Errorf("", "%v", err)
	}
}
