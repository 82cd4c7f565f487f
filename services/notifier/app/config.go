package app

import (
	"net"
	"strconv"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
)

// Config is the configuration of the notifier.
type Config struct {
	service.Config `yaml:",inline"`

	// VerifierAddress is host:port of the verifier's gRPC server, which confirms every
	// verdict before anybody is told.
	VerifierAddress string `yaml:"verifier_address"`
	// Delivery times and bounds the deliveries.
	Delivery DeliveryConfig `yaml:"delivery"`
	// Subscriptions say who is told what.
	Subscriptions []SubscriptionConfig `yaml:"subscriptions"`
}

// DeliveryConfig times and bounds the deliveries.
type DeliveryConfig struct {
	// Schedule holds the wait before each attempt; as many attempts are made as it
	// has entries.
	Schedule []time.Duration `yaml:"schedule"`
	// Timeout bounds one attempt.
	Timeout time.Duration `yaml:"timeout"`
	// Lease is how long an attempt belongs to one replica; at least twice the timeout.
	Lease time.Duration `yaml:"lease"`
	// Poll is how often the store is asked for what became due.
	Poll time.Duration `yaml:"poll"`
	// Workers and PerSubscription bound the attempts at once.
	Workers         int `yaml:"workers"`
	PerSubscription int `yaml:"per_subscription"`
	// Retention is how long deliveries are kept after they ended.
	Retention time.Duration `yaml:"retention"`
	// OrphanAge is how long deliveries of a subscription that is no longer configured
	// wait for it to come back.
	OrphanAge time.Duration `yaml:"orphan_age"`
}

const drain = 5 * time.Second

// Default returns the configuration without subscriptions.
func Default() Config {
	return Config{
		Config:          service.DefaultConfig("notifier"),
		VerifierAddress: "127.0.0.1:9103",
		Delivery: DeliveryConfig{
			Schedule: core.DefaultSchedule(), Timeout: 15 * time.Second, Lease: time.Minute, Poll: time.Second,
			Workers: 16, PerSubscription: 4,
			Retention: 30 * 24 * time.Hour, OrphanAge: 24 * time.Hour,
		},
	}
}

// Validate reports what is wrong.
func (c *Config) Validate(p *config.Problems) {
	if _, _, err := net.SplitHostPort(c.VerifierAddress); err != nil {
		p.Errorf("verifier_address", "%q is not host:port", c.VerifierAddress)
	}
	c.Delivery.validate(p.In("delivery"))
	if len(c.Subscriptions) == 0 {
		p.Warnf("subscriptions", "is empty: nobody is notified")
	}
	names, secrets := map[string]bool{}, map[string]string{}
	for i, s := range c.Subscriptions {
		path := "subscriptions[" + strconv.Itoa(i) + "]"
		s.validate(p.In(path))
		if names[s.Name] {
			p.Errorf(path+".name", "%q is used twice", s.Name)
		}
		names[s.Name] = true
		if secret, err := s.Secret.Resolve(); err == nil && secret != "" {
			if secrets[secret] != "" {
				p.Warnf(path+".secret", "is the same as that of %s: a subscriber could sign for the other", secrets[secret])
			}
			secrets[secret] = path
		}
	}
}

func (c DeliveryConfig) validate(p *config.Problems) {
	if len(c.Schedule) == 0 || len(c.Schedule) > 100 {
		p.Errorf("schedule", "must have 1 to 100 entries")
	}
	for i, d := range c.Schedule {
		if d < 0 || d > 7*24*time.Hour {
			p.Errorf("schedule["+strconv.Itoa(i)+"]", "must be 0 to 168h")
		}
	}
	if c.Timeout <= 0 || c.Timeout > 5*time.Minute {
		p.Errorf("timeout", "must be more than 0 and at most 5m")
	}
	if c.Lease < 2*c.Timeout {
		p.Errorf("lease", "must be at least twice the timeout: two replicas would send at once")
	}
	if c.Poll < 10*time.Millisecond || c.Poll > time.Minute {
		p.Errorf("poll", "must be 10ms to 1m")
	}
	if c.Workers < 1 || c.Workers > 1000 {
		p.Errorf("workers", "must be 1 to 1000")
	}
	if c.PerSubscription < 1 {
		p.Errorf("per_subscription", "must be at least 1")
	}
	if c.Retention < time.Hour {
		p.Errorf("retention", "must be at least 1h: redelivered events are recognised by the deliveries kept")
	}
	if c.OrphanAge < 0 {
		p.Errorf("orphan_age", "must not be negative")
	}
}
