package eventbus

import (
	"net/url"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
)

// Config is the part of a service's configuration about NATS. Zero values mean
// the defaults.
type Config struct {
	// URL names the servers, separated by commas, for example
	// `nats://127.0.0.1:4222`. The connection is mutual TLS in any case.
	URL string `yaml:"url"`
	// Replicas is how many servers of a cluster keep each stream: 1, 3 or 5.
	// Default 1. Only the provisioner heeds it.
	Replicas int `yaml:"replicas"`
	// PublishTimeout bounds the wait for the acknowledgement of a published
	// message. Default 5 s.
	PublishTimeout time.Duration `yaml:"publish_timeout"`
	// DrainTimeout is how long handlers may go on when the service stops,
	// before they are cancelled and their messages given back. Default 10 s.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
	// AckWait, Backoff and MaxDeliver replace the catalogue's values for every
	// consumer. They are for tests. Only the provisioner heeds AckWait.
	AckWait    time.Duration   `yaml:"ack_wait"`
	Backoff    []time.Duration `yaml:"backoff"`
	MaxDeliver int             `yaml:"max_deliver"`
}

// DefaultConfig returns the configuration for a server on this machine.
func DefaultConfig() Config {
	return Config{
		URL: "nats://127.0.0.1:4222", Replicas: 1,
		PublishTimeout: 5 * time.Second, DrainTimeout: 10 * time.Second,
	}
}

// Validate reports what is wrong with the configuration.
func (c *Config) Validate(p *config.Problems) {
	if c.URL == "" {
		p.Errorf("url", "is missing")
	}
	for _, s := range strings.Split(c.URL, ",") {
		if u, err := url.Parse(strings.TrimSpace(s)); err != nil || c.URL != "" && (u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls") {
			p.Errorf("url", "%q is not nats://host:port", s)
		} else if u.User != nil {
			p.Errorf("url", "must not carry a user: the certificate is the identity")
		}
	}
	switch c.Replicas {
	case 0, 1, 3, 5:
	default:
		p.Errorf("replicas", "is %d, want 1, 3 or 5", c.Replicas)
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"publish_timeout", c.PublishTimeout}, {"drain_timeout", c.DrainTimeout}, {"ack_wait", c.AckWait}} {
		if d.d < 0 {
			p.Errorf(d.name, "is negative")
		}
	}
	for _, d := range c.Backoff {
		if d < 0 {
			p.Errorf("backoff", "is negative")
		}
	}
	if c.MaxDeliver < 0 {
		p.Errorf("max_deliver", "is negative")
	}
	if c.AckWait != 0 || len(c.Backoff) != 0 || c.MaxDeliver != 0 {
		p.Warnf("ack_wait, backoff, max_deliver", "replace the catalogue's values; meant for tests")
	}
}

func withDefaults(c Config) Config {
	d := DefaultConfig()
	if c.URL == "" {
		c.URL = d.URL
	}
	if c.Replicas == 0 {
		c.Replicas = d.Replicas
	}
	if c.PublishTimeout == 0 {
		c.PublishTimeout = d.PublishTimeout
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = d.DrainTimeout
	}
	return c
}

// consumer returns the consumer with the overrides applied.
func (c *Config) consumer(k Consumer) Consumer {
	if c.AckWait > 0 {
		k.AckWait = c.AckWait
	}
	if len(c.Backoff) > 0 {
		k.Backoff = c.Backoff
	}
	if c.MaxDeliver > 0 {
		k.MaxDeliver = c.MaxDeliver
	}
	if k.MaxDuration == 0 {
		k.MaxDuration = defaultMaxDuration
	}
	return k
}
