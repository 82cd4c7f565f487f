package app

import (
	"maps"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
)

// Config is the configuration of the gateway.
type Config struct {
	service.Config `yaml:",inline"`

	// Webhooks is the server for the webhooks of registries.
	Webhooks WebhooksConfig `yaml:"webhooks"`
	// Rate bounds the requests of each source that has no rate of its own.
	Rate RateConfig `yaml:"rate"`
	// Sources are the registries that may report pushes.
	Sources []SourceConfig `yaml:"sources"`
}

// WebhooksConfig is the configuration of the server for webhooks.
type WebhooksConfig struct {
	// Listen is host:port.
	Listen string `yaml:"listen"`
	// TLS makes it HTTPS if both files are named.
	TLS WebhooksTLSConfig `yaml:"tls"`
	// MaxBody is the largest envelope.
	MaxBody config.Bytes `yaml:"max_body"`
	// MaxEvents is the largest number of events of an envelope.
	MaxEvents int `yaml:"max_events"`
	// MaxConcurrent is the largest number of webhooks under way; more get 503.
	MaxConcurrent int `yaml:"max_concurrent"`
	// HeaderTimeout and BodyTimeout bound how long a client may take to send.
	HeaderTimeout time.Duration `yaml:"header_timeout"`
	BodyTimeout   time.Duration `yaml:"body_timeout"`
	// PublishTimeout bounds the wait until the events of an envelope are stored.
	PublishTimeout time.Duration `yaml:"publish_timeout"`
	// RetryAfter is what registries are told to wait while events cannot be stored.
	RetryAfter time.Duration `yaml:"retry_after"`
}

// WebhooksTLSConfig names a certificate; the files are read again while the server runs.
type WebhooksTLSConfig struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

// RateConfig is a token bucket.
type RateConfig struct {
	// RequestsPerSecond fills it.
	RequestsPerSecond float64 `yaml:"requests_per_second"`
	// Burst is its size.
	Burst int `yaml:"burst"`
}

// SourceConfig is one registry that may report pushes.
type SourceConfig struct {
	// Name is the last part of the webhook's path: lower-case letters, digits, `-`.
	Name string `yaml:"name"`
	// Kind is the kind of registry: `distribution`.
	Kind string `yaml:"kind"`
	// Secret is the bearer token that the registry sends.
	Secret config.Secret `yaml:"secret"`
	// Registry is the host and optional port that the source may speak for.
	Registry string `yaml:"registry"`
	// Rate bounds its requests; zero takes the common rate.
	Rate RateConfig `yaml:"rate"`
}

const (
	defaultListen = "127.0.0.1:8080"
	// The event of a push lists what the manifest refers to, indented: a manifest of
	// the 4 MiB that Distribution takes makes about 9 MiB of it. A limit below that
	// would let one push block all that follow.
	defaultMaxBody = 16 << 20
	minSecret      = 16
	goodSecret     = 32
)

// Default returns the configuration without sources.
func Default() Config {
	return Config{
		Config: service.DefaultConfig("gateway"),
		Webhooks: WebhooksConfig{
			Listen: defaultListen, MaxBody: defaultMaxBody, MaxEvents: 256, MaxConcurrent: 64,
			HeaderTimeout: 5 * time.Second, BodyTimeout: 10 * time.Second,
			PublishTimeout: 5 * time.Second, RetryAfter: 5 * time.Second,
		},
		// A registry that reports every blob and every pull sends a dozen requests for
		// each image, and many registries do not repeat what is refused.
		Rate: RateConfig{RequestsPerSecond: 1000, Burst: 2000},
	}
}

var sourceName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// Validate reports what is wrong.
func (c *Config) Validate(p *config.Problems) {
	if c.Server != service.DefaultConfig("gateway").Server {
		p.Errorf("server", "the gateway has no gRPC server; its HTTP server is configured under webhooks")
	}
	c.Webhooks.validate(p)
	c.Rate.validate(p, "rate")
	if len(c.Sources) == 0 {
		p.Warnf("sources", "is empty: every webhook is refused")
	}
	names, secrets := map[string]bool{}, map[string]string{}
	for i, s := range c.Sources {
		path := "sources[" + strconv.Itoa(i) + "]"
		s.validate(p, path, secrets)
		if names[s.Name] {
			p.Errorf(path+".name", "%q is used twice", s.Name)
		}
		names[s.Name] = true
	}
}

func (c WebhooksConfig) validate(p *config.Problems) {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		p.Errorf("webhooks.listen", "%v", err)
	}
	switch {
	case (c.TLS.CertFile == "") != (c.TLS.KeyFile == ""):
		p.Errorf("webhooks.tls", "needs both cert_file and key_file, or neither")
	case c.TLS.CertFile == "" && err == nil && !isLoopback(host):
		p.Warnf("webhooks.tls", "is not set: secrets cross the network in clear unless something in front does TLS")
	}
	for path, d := range map[string]time.Duration{
		"webhooks.header_timeout": c.HeaderTimeout, "webhooks.body_timeout": c.BodyTimeout,
		"webhooks.publish_timeout": c.PublishTimeout, "webhooks.retry_after": c.RetryAfter,
	} {
		if d <= 0 || d > 10*time.Minute {
			p.Errorf(path, "must be more than 0 and at most 10m")
		}
	}
	if c.MaxBody < 1<<10 || c.MaxBody > 64<<20 {
		p.Errorf("webhooks.max_body", "must be 1KiB to 64MiB")
	}
	if c.MaxEvents < 1 || c.MaxEvents > 10_000 {
		p.Errorf("webhooks.max_events", "must be 1 to 10000")
	}
	if c.MaxConcurrent < 1 || c.MaxConcurrent > 10_000 {
		p.Errorf("webhooks.max_concurrent", "must be 1 to 10000")
	}
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func (c RateConfig) validate(p *config.Problems, path string) {
	if !(c.RequestsPerSecond > 0) || c.RequestsPerSecond > 1e6 {
		p.Errorf(path+".requests_per_second", "must be more than 0 and at most 1000000")
	}
	if c.Burst < 1 {
		p.Errorf(path+".burst", "must be at least 1")
	}
}

// validate also resolves the secret: a gateway that finds out at the first webhook
// that it has none would refuse pushes that were meant to be let in.
func (s SourceConfig) validate(p *config.Problems, path string, secrets map[string]string) {
	if !sourceName.MatchString(s.Name) {
		p.Errorf(path+".name", "must be 1 to 63 lower-case letters, digits or -")
	}
	if kinds := slices.Sorted(maps.Keys(adapters)); !slices.Contains(kinds, s.Kind) {
		p.Errorf(path+".kind", "unknown kind %q; known are %s", s.Kind, strings.Join(kinds, ", "))
	}
	probe := imageref.Ref{Registry: s.Registry, Repository: "probe", Tag: "probe"}
	if err := probe.Validate(); err != nil {
		p.Errorf(path+".registry", "%v", err)
	}
	if s.Rate != (RateConfig{}) {
		s.Rate.validate(p, path+".rate")
	}
	secret, err := s.Secret.Resolve()
	switch {
	case err != nil:
		p.Errorf(path+".secret", "%v", err)
	case len(secret) < minSecret:
		p.Errorf(path+".secret", "must have at least %d bytes", minSecret)
	case secrets[secret] != "":
		p.Errorf(path+".secret", "is the same as that of %s: a source could speak for the other", secrets[secret])
	case len(secret) < goodSecret:
		p.Warnf(path+".secret", "has less than %d bytes", goodSecret)
	}
	if secret != "" {
		secrets[secret] = path
	}
}
