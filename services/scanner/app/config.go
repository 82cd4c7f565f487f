package app

import (
	"crypto"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/advisorybundle"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/osvfiles"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/extract"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/feeds"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/reconcile"
)

// Config is the configuration of the scanner.
type Config struct {
	service.Config `yaml:",inline"`

	// Registry names the registries that images are pulled from.
	Registry registry.Config `yaml:"registry"`
	// Scan says how much is done at once.
	Scan ScanConfig `yaml:"scan"`
	// Limits bound what one image may cost.
	Limits extract.Limits `yaml:"limits"`
	// Advisories says where advisories come from.
	Advisories AdvisoriesConfig `yaml:"advisories"`
	// Reconcile says which registries are compared with the scans.
	Reconcile ReconcileConfig `yaml:"reconcile"`
}

// ReconcileSource is a registry to compare with the scans.
type ReconcileSource = reconcile.Source

// ReconcileConfig says which registries are compared with the scans: pushes that nobody
// reported are submitted, images that are gone are told.
type ReconcileConfig struct {
	// Registries are compared at start and then every Interval; empty is none.
	Registries []ReconcileSource `yaml:"registries"`
	// Interval is how often each is compared, by one replica.
	Interval time.Duration `yaml:"interval"`
	// Timeout bounds one run over one registry; the next goes on where it ended.
	Timeout time.Duration `yaml:"timeout"`
	// RequestsPerSecond bounds the requests to each.
	RequestsPerSecond float64 `yaml:"requests_per_second"`
	// MaxRepositories of a registry, MaxTags of a repository and MaxChecks, images of a
	// registry that are looked for by digest, bound one run.
	MaxRepositories int `yaml:"max_repositories"`
	MaxTags         int `yaml:"max_tags"`
	MaxChecks       int `yaml:"max_checks"`
}

// ScanConfig says how much is done at once.
type ScanConfig struct {
	// Concurrency is the number of images scanned at a time.
	Concurrency int `yaml:"concurrency"`
	// Layers is the number of layers of one image read at a time.
	Layers int `yaml:"layers"`
	// Timeout bounds one attempt.
	Timeout time.Duration `yaml:"timeout"`
	// LayerRetention is how long what was found in a layer is kept that no scanned image
	// has, or that another release found.
	LayerRetention time.Duration `yaml:"layer_retention"`
	// LayerMemory is how much of what was found in the layers used last is held in
	// memory; 0 holds nothing.
	LayerMemory config.Bytes `yaml:"layer_memory"`
	// Secrets tells whether credentials are looked for.
	Secrets bool `yaml:"secrets"`
}

// AdvisoriesConfig says where advisories come from.
type AdvisoriesConfig struct {
	// Seed are OSV files and directories of them, imported at the first start, when
	// no snapshot is in use yet.
	Seed []string `yaml:"seed"`
	// Feeds are asked for advisories regularly; empty is nothing.
	Feeds []feeds.Feed `yaml:"feeds"`
	// FeedInterval is how often they are asked, by one replica.
	FeedInterval time.Duration `yaml:"feed_interval"`
	// FeedTimeout bounds one download.
	FeedTimeout time.Duration `yaml:"feed_timeout"`
	// TrustedKeys are files with public keys, PEM: only bundles of advisories that one of
	// them signed can be imported.
	TrustedKeys []string `yaml:"trusted_keys"`
	// RefreshInterval is how often a replica looks for what another one imported.
	RefreshInterval time.Duration `yaml:"refresh_interval"`
	// Directory holds the file of the snapshot in use. Empty: beside the database if
	// that is a file, else in the user's cache directory. What is in it can be fetched
	// again at any time.
	Directory string `yaml:"directory"`
	// MaxRecords is the number of records in the largest import.
	MaxRecords int `yaml:"max_records"`
}

// maxMessage lets a scan with all its reports pass: it is the signer's default for
// the largest that is fetched. A smaller one would make dead letters of images
// that are within every limit.
const maxMessage config.Bytes = 64 << 20

// Default is the configuration before any file.
func Default() Config {
	common := service.DefaultConfig("scanner")
	common.Server.MaxMessage = maxMessage
	return Config{
		Config: common,
		Scan:   ScanConfig{Concurrency: 2, Layers: 2, Timeout: 15 * time.Minute, Secrets: true, LayerRetention: 7 * 24 * time.Hour, LayerMemory: 64 << 20},
		Limits: extract.DefaultLimits(),
		Reconcile: ReconcileConfig{
			Interval: time.Hour, Timeout: 30 * time.Minute, RequestsPerSecond: 10,
			MaxRepositories: 1000, MaxTags: 10_000, MaxChecks: 2000,
		},
		Advisories: AdvisoriesConfig{FeedInterval: time.Hour, FeedTimeout: 15 * time.Minute, RefreshInterval: 10 * time.Second, MaxRecords: 1_000_000},
	}
}

// advisoriesDirectory is where snapshot files are kept.
func (c *Config) advisoriesDirectory() string {
	if c.Advisories.Directory != "" {
		return c.Advisories.Directory
	}
	if c.Database.Driver == sqldb.SQLite {
		return strings.TrimSuffix(c.Database.DSN, ".db") + "-advisories"
	}
	cache, err := os.UserCacheDir()
	if err != nil { // no home directory
		cache = os.TempDir()
	}
	return filepath.Join(cache, "seaworthy", "scanner-advisories")
}

// Validate reports what is wrong beyond the common part.
func (c *Config) Validate(p *config.Problems) {
	c.Registry.Validate(p.In("registry"))
	c.Limits.Validate(p.In("limits"))
	if c.Scan.Concurrency < 1 || c.Scan.Concurrency > 64 {
		p.Errorf("scan.concurrency", "must be between 1 and 64")
	}
	if c.Scan.Layers < 1 || c.Scan.Layers > 64 {
		p.Errorf("scan.layers", "must be between 1 and 64")
	}
	if c.Scan.Timeout < time.Second {
		p.Errorf("scan.timeout", "must be at least 1s")
	}
	// A scan that is under way must not lose its layers.
	if c.Scan.LayerRetention < time.Hour || c.Scan.LayerRetention < c.Scan.Timeout {
		p.Errorf("scan.layer_retention", "must be at least 1h and not less than scan.timeout")
	}
	if c.Scan.LayerMemory < 0 {
		p.Errorf("scan.layer_memory", "must not be negative")
	}
	if c.Advisories.RefreshInterval < time.Second {
		p.Errorf("advisories.refresh_interval", "must be at least 1s")
	}
	c.Advisories.validateFeeds(p.In("advisories"))
	c.Reconcile.validate(p.In("reconcile"), c.Registry.Registries)
	if c.Advisories.MaxRecords < 1 {
		p.Errorf("advisories.max_records", "must be positive")
	}
	if len(c.Advisories.Seed) == 0 && len(c.Advisories.Feeds) == 0 {
		p.Warnf("advisories.seed", "is empty: nothing is scanned until advisories are imported")
	}
}

func (r *ReconcileConfig) validate(p *config.Problems, registries []registry.Host) {
	seen := map[string]bool{}
	for i, s := range r.Registries {
		at := fmt.Sprintf("registries[%d]", i)
		if !slices.ContainsFunc(registries, func(h registry.Host) bool { return h.Host == s.Host }) {
			p.Errorf(at+".host", "%q is not among registry.registries", s.Host)
		}
		if seen[s.Host] {
			p.Errorf(at+".host", "%q is named twice", s.Host)
		}
		seen[s.Host] = true
		if s.Catalogue == (len(s.Repositories) > 0) {
			p.Errorf(at, "needs either repositories or catalogue: true")
		}
		names := map[string]bool{}
		for j, name := range s.Repositories {
			ref := imageref.Ref{Registry: "registry.example", Repository: name, Tag: "latest"}
			if err := ref.Validate(); err != nil {
				p.Errorf(fmt.Sprintf("%s.repositories[%d]", at, j), "%v", err)
			}
			if names[name] {
				p.Errorf(fmt.Sprintf("%s.repositories[%d]", at, j), "%q is named twice", name)
			}
			names[name] = true
		}
		if len(s.Repositories) > r.MaxRepositories {
			p.Errorf(at+".repositories", "are more than max_repositories")
		}
	}
	if r.Interval < time.Minute || r.Interval > 7*24*time.Hour {
		p.Errorf("interval", "must be between 1m and 168h")
	}
	if r.Timeout < time.Minute || r.Timeout > 24*time.Hour {
		p.Errorf("timeout", "must be between 1m and 24h")
	}
	if !(r.RequestsPerSecond >= 0.1 && r.RequestsPerSecond <= 1000) {
		p.Errorf("requests_per_second", "must be between 0.1 and 1000")
	}
	for _, l := range []struct {
		name       string
		value, max int
	}{
		{"max_repositories", r.MaxRepositories, 100_000}, {"max_tags", r.MaxTags, 100_000}, {"max_checks", r.MaxChecks, 1_000_000},
	} {
		if l.value < 1 || l.value > l.max {
			p.Errorf(l.name, "must be between 1 and %d", l.max)
		}
	}
}

// minFeedInterval spares the servers of feeds.
const minFeedInterval = time.Minute

func (a *AdvisoriesConfig) validateFeeds(p *config.Problems) {
	names := map[string]bool{}
	for i, f := range a.Feeds {
		at := fmt.Sprintf("feeds[%d]", i)
		if f.Name == "" || names[f.Name] {
			p.Errorf(at+".name", "must be set, and be another for each feed")
		}
		names[f.Name] = true
		switch u, err := url.Parse(f.URL); {
		case f.URL == "":
			p.Errorf(at+".url", "must be an http or https address, or a path")
		case err != nil || strings.Contains(f.URL, "://") && !osvfiles.IsURL(f.URL) || osvfiles.IsURL(f.URL) && u.Host == "":
			p.Errorf(at+".url", "is neither an http or https address nor a path")
		case u.Scheme == "http":
			p.Warnf(at+".url", "is not encrypted: who can change what it says can hide vulnerabilities")
		}
	}
	if a.FeedInterval < minFeedInterval {
		p.Errorf("feed_interval", "must be at least %v", minFeedInterval)
	}
	if a.FeedTimeout < time.Second {
		p.Errorf("feed_timeout", "must be at least 1s")
	}
}

// trustedKeys reads the keys that sign bundles.
func (a *AdvisoriesConfig) trustedKeys() ([]crypto.PublicKey, error) {
	var out []crypto.PublicKey
	for _, path := range a.TrustedKeys {
		text, err := regularfile.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("advisories.trusted_keys: %w", err)
		}
		key, err := advisorybundle.ParsePublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("advisories.trusted_keys: %s: %w", path, err)
		}
		out = append(out, key)
	}
	return out, nil
}
