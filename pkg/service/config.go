package service

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// Config is the part of the configuration that every service has. A service
// embeds it with the tag `yaml:",inline"`, so that the sections are top-level.
type Config struct {
	// Server is where the service is served.
	Server grpcx.ServerConfig `yaml:"server"`
	// Admin is where it is watched.
	Admin AdminConfig `yaml:"admin"`
	// TLS is its identity: the certificate carries its SPIFFE ID.
	TLS tlsx.Config `yaml:"tls"`
	// NATS is where events come from and go to.
	NATS eventbus.Config `yaml:"nats"`
	// Database is its own database; services without state leave it empty.
	Database sqldb.Config `yaml:"database"`
	// Telemetry is its logs, traces and metrics.
	Telemetry obs.Config `yaml:"telemetry"`
	// StopTimeout is the time from SIGTERM to the end of the process.
	StopTimeout time.Duration `yaml:"stop_timeout"`
}

// AdminConfig is the HTTP server for /healthz, /readyz and /metrics. It has no
// access control: keep it on an address that only the operator reaches.
type AdminConfig struct {
	// Listen is host:port; "" = no admin server.
	Listen string `yaml:"listen"`
	// Names are the host names that it is called by, such as scanner.fleet.svc. IP
	// addresses, localhost and names without a dot need not be given. Requests with
	// another name in Host are refused: a web page would have sent them.
	Names []string `yaml:"names"`
}

// Default ports on loopback.
var defaultPorts = map[string]struct{ server, admin string }{
	"gateway":  {"8080", "9200"},
	"scanner":  {"9101", "9201"},
	"signer":   {"9102", "9202"},
	"verifier": {"9103", "9203"},
	"notifier": {"9104", "9204"},
}

const (
	defaultStopTimeout = 25 * time.Second // below the 30 s after which Kubernetes kills
	minStopTimeout     = 100 * time.Millisecond
)

// DefaultConfig is everything that has a sensible default: loopback addresses
// and, for all but the gateway, a SQLite file in the working directory. The TLS
// files have none.
func DefaultConfig(service string) Config {
	port, ok := defaultPorts[service]
	if !ok {
		port.server, port.admin = "0", "0"
	}
	c := Config{
		Server:      grpcx.DefaultServerConfig(net.JoinHostPort("127.0.0.1", port.server)),
		Admin:       AdminConfig{Listen: net.JoinHostPort("127.0.0.1", port.admin)},
		NATS:        eventbus.DefaultConfig(),
		Telemetry:   obs.DefaultConfig(),
		StopTimeout: defaultStopTimeout,
	}
	if service != "gateway" {
		c.Database = sqldb.Config{Driver: sqldb.SQLite, DSN: "seaworthy-" + service + ".db"}
	}
	return c
}

// EnvPrefix is how the environment variables of a service start:
// SEAWORTHY_SCANNER for "scanner".
func EnvPrefix(service string) string {
	return "SEAWORTHY_" + strings.ToUpper(strings.ReplaceAll(service, "-", "_"))
}

// validate reports what is wrong with the common part.
func (c *Config) validate(p *config.Problems, needsDatabase bool) {
	c.Server.Validate(p.In("server"))
	if c.Admin.Listen == "" {
		p.Warnf("admin.listen", "is empty: nobody can see whether the service is ready")
	} else if _, _, err := net.SplitHostPort(c.Admin.Listen); err != nil {
		p.Errorf("admin.listen", "%q is not host:port", c.Admin.Listen)
	}
	for i, name := range c.Admin.Names {
		if name == "" || strings.ContainsAny(name, ":/*[] ") {
			p.Errorf(fmt.Sprintf("admin.names[%d]", i), "%q is not a host name", name)
		}
	}
	for _, f := range []struct{ key, value string }{
		{"tls.ca_file", c.TLS.CAFile}, {"tls.cert_file", c.TLS.CertFile}, {"tls.key_file", c.TLS.KeyFile},
	} {
		if f.value == "" {
			p.Errorf(f.key, "must be given: services speak mutual TLS only")
		}
	}
	c.NATS.Validate(p.In("nats"))
	if needsDatabase {
		c.Database.Validate(p.In("database"))
	} else if c.Database != (sqldb.Config{}) {
		p.Warnf("database", "is ignored: the service keeps no state")
	}
	c.Telemetry.Validate(p.In("telemetry"))
	if c.StopTimeout < minStopTimeout {
		p.Errorf("stop_timeout", "%s is less than %s", c.StopTimeout, minStopTimeout)
	}
}
