package registry

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
)

// Limits that a zero Config means.
const (
	// DefaultMaxManifest is the largest manifest or index that is read.
	DefaultMaxManifest config.Bytes = 4 << 20
	// DefaultMaxReferrers is the largest number of referrers of one subject.
	DefaultMaxReferrers = 1000
	// DefaultTimeout bounds one attempt of a request that is not a blob stream.
	DefaultTimeout = 30 * time.Second
	// DefaultStallTimeout ends a blob stream that delivers nothing for so long.
	DefaultStallTimeout = 60 * time.Second
	// DefaultMaxAttempts is how often a request is tried in all.
	DefaultMaxAttempts = 5
	// DefaultMaxConcurrent is how many requests to one registry run at a time.
	DefaultMaxConcurrent = 8
)

// Config names the registries that may be used. The zero value allows none.
type Config struct {
	// Registries is the allow-list.
	Registries []Host `yaml:"registries"`
	// MaxManifest limits manifests and indexes; 0 means DefaultMaxManifest.
	MaxManifest config.Bytes `yaml:"max_manifest"`
	// MaxReferrers limits the referrers of one subject; 0 means DefaultMaxReferrers.
	MaxReferrers int `yaml:"max_referrers"`
	// Timeout bounds one attempt of a request other than a blob stream; 0 means DefaultTimeout.
	Timeout time.Duration `yaml:"timeout"`
	// StallTimeout ends a blob stream that delivers nothing for so long to somebody
	// who reads it; 0 means DefaultStallTimeout.
	StallTimeout time.Duration `yaml:"stall_timeout"`
	// MaxAttempts is how often a request is tried in all; 0 means DefaultMaxAttempts.
	MaxAttempts int `yaml:"max_attempts"`
}

// Host is one registry that may be used.
type Host struct {
	// Host is the name and optional port as it stands in image references,
	// for example `registry.example:5000` or `docker.io`.
	Host string `yaml:"host"`
	// Insecure means plain http. It is never fallen back to by itself.
	Insecure bool `yaml:"insecure"`
	// Username and Password are basic credentials; they are also what a token
	// service is asked with. Both empty means anonymous.
	Username string        `yaml:"username"`
	Password config.Secret `yaml:"password"`
	// MaxConcurrent bounds requests that run at a time, streams included until
	// they are closed; 0 means DefaultMaxConcurrent.
	MaxConcurrent int `yaml:"max_concurrent"`
	// RequestsPerSecond bounds the rate of requests; 0 means no bound.
	RequestsPerSecond float64 `yaml:"requests_per_second"`
}

// Validate reports every problem of c to p, with paths relative to p.
func (c *Config) Validate(p *config.Problems) {
	if len(c.Registries) == 0 {
		p.Warnf("registries", "no registry is allowed: every image will be refused")
	}
	seen := map[string]bool{}
	for i := range c.Registries {
		c.Registries[i].validate(p, fmt.Sprintf("registries[%d]", i))
		host := c.Registries[i].Host
		if seen[host] {
			p.Errorf(fmt.Sprintf("registries[%d]", i)+".host", "%q is named twice", host)
		}
		seen[host] = true
	}
	if c.MaxManifest < 0 {
		p.Errorf("max_manifest", "must not be negative")
	}
	if c.MaxReferrers < 0 {
		p.Errorf("max_referrers", "must not be negative")
	}
	if c.Timeout < 0 {
		p.Errorf("timeout", "must not be negative")
	}
	if c.StallTimeout < 0 {
		p.Errorf("stall_timeout", "must not be negative")
	}
	if c.MaxAttempts < 0 {
		p.Errorf("max_attempts", "must not be negative")
	}
}

func (h *Host) validate(p *config.Problems, path string) {
	if err := checkHost(h.Host); err != nil {
		p.Errorf(path+".host", "%v", err)
	}
	hasPassword := !h.Password.IsZero()
	if hasPassword != (h.Username != "") {
		p.Errorf(path, "username and password belong together")
	}
	if h.Insecure && hasPassword && !isLoopback(h.Host) {
		p.Warnf(path+".insecure", "the password travels in the clear")
	}
	if h.MaxConcurrent < 0 {
		p.Errorf(path+".max_concurrent", "must not be negative")
	}
	if r := h.RequestsPerSecond; r < 0 || math.IsNaN(r) || math.IsInf(r, 0) {
		p.Errorf(path+".requests_per_second", "must be a number that is not negative")
	}
}

func checkHost(host string) error {
	_, err := name.NewRegistry(host, name.StrictValidation)
	return err
}

func isLoopback(host string) bool {
	return strings.HasPrefix(host, "127.") || strings.HasPrefix(host, "[::1]") ||
		host == "localhost" || strings.HasPrefix(host, "localhost:")
}

func (c *Config) withDefaults() Config {
	d := *c
	if d.MaxManifest == 0 {
		d.MaxManifest = DefaultMaxManifest
	}
	if d.MaxReferrers == 0 {
		d.MaxReferrers = DefaultMaxReferrers
	}
	if d.Timeout == 0 {
		d.Timeout = DefaultTimeout
	}
	if d.StallTimeout == 0 {
		d.StallTimeout = DefaultStallTimeout
	}
	if d.MaxAttempts == 0 {
		d.MaxAttempts = DefaultMaxAttempts
	}
	return d
}
