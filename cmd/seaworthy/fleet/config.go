// Package fleet runs the five services in one process: the all-in-one. It is the
// same code as the five binaries, each service's app.Definition with other
// configuration; calls between them pass gRPC, mutual TLS and every interceptor.
// NATS, the registry, the databases and the certificate authority are embedded and
// live under one data directory.
package fleet

import (
	"net"
	"path/filepath"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	gateway "github.com/seaworthy-dev/seaworthy/services/gateway/app"
	notifier "github.com/seaworthy-dev/seaworthy/services/notifier/app"
	scanner "github.com/seaworthy-dev/seaworthy/services/scanner/app"
	signer "github.com/seaworthy-dev/seaworthy/services/signer/app"
	verifier "github.com/seaworthy-dev/seaworthy/services/verifier/app"
)

// Config configures the all-in-one. The sections of the services take every key
// of their own configuration files; addresses, certificates, databases and the
// embedded registry are filled in.
type Config struct {
	// DataDir holds everything that outlives a restart.
	DataDir string `yaml:"data_dir"`
	// Host is the address that everything listens on. Other than loopback it
	// offers the registry and the webhooks to the network.
	Host string `yaml:"host"`
	// Ports are the ports to listen on. 0 keeps the port of the last start in the
	// same data directory, else takes the usual one if it is free, else any.
	Ports Ports `yaml:"ports"`
	// Registry configures the embedded registry.
	Registry RegistryConfig `yaml:"registry"`
	// Telemetry is that of all five services.
	Telemetry obs.Config `yaml:"telemetry"`

	Gateway  gateway.Config  `yaml:"gateway"`
	Scanner  scanner.Config  `yaml:"scanner"`
	Signer   signer.Config   `yaml:"signer"`
	Verifier verifier.Config `yaml:"verifier"`
	Notifier notifier.Config `yaml:"notifier"`
}

// Ports are TCP ports.
type Ports struct {
	Gateway  int `yaml:"gateway"`
	Registry int `yaml:"registry"`
	NATS     int `yaml:"nats"`
	Scanner  int `yaml:"scanner"`
	Signer   int `yaml:"signer"`
	Verifier int `yaml:"verifier"`
	Notifier int `yaml:"notifier"`
}

// RegistryConfig configures the embedded registry.
type RegistryConfig struct {
	// Disabled leaves it out; then gateway.sources and the services' registries
	// name those to work with.
	Disabled bool `yaml:"disabled"`
	// Names are the host names that clients call it by. The host above, IP addresses,
	// localhost and names without a dot need not be given; other names are refused,
	// because a web page could use them to reach the registry.
	Names []string `yaml:"names"`
}

// Default returns the configuration that the all-in-one starts from. Paths of
// policies and advisories are relative to the working directory.
func Default() Config {
	c := Config{
		DataDir:   ".seaworthy",
		Host:      "127.0.0.1",
		Telemetry: obs.Config{LogLevel: "warn", LogFormat: "text", SampleRatio: 1},
		Gateway:   gateway.Default(),
		Scanner:   scanner.Default(),
		Signer:    signer.Default(),
		Verifier:  verifier.Default(),
		Notifier:  notifier.Default(),
	}
	return c
}

// Validate adds what is wrong with the all-in-one's own keys to p; the services
// check their sections when they start.
func (c *Config) Validate(p *config.Problems) {
	if c.DataDir == "" {
		p.Errorf("data_dir", "must name a directory")
	}
	ip := net.ParseIP(c.Host)
	switch {
	case ip == nil:
		p.Errorf("host", "%q is not an IP address", c.Host)
	case ip.IsUnspecified():
		p.Errorf("host", "invalid registry name %s: give the address that image references begin with", c.Host)
	case !ip.IsLoopback():
		p.Warnf("host", "the registry and the webhooks are offered to the network in plain HTTP")
	}
}

func (c *Config) path(elem ...string) string {
	return filepath.Join(append([]string{c.DataDir}, elem...)...)
}
