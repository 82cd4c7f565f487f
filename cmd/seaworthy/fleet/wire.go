package fleet

import (
	"github.com/seaworthy-dev/seaworthy/cmd/internal/fleetcontext"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	gateway "github.com/seaworthy-dev/seaworthy/services/gateway/app"
	notifier "github.com/seaworthy-dev/seaworthy/services/notifier/app"
	scanner "github.com/seaworthy-dev/seaworthy/services/scanner/app"
)

// sourceName is the webhook source of the embedded registry.
const sourceName = "embedded"

// unlimited is the highest rate that a source can have.
const unlimited = 1_000_000

// wire fills in what the all-in-one knows and the configuration cannot: where
// everything is, who everybody is, and the embedded registry.
func (c *Config) wire(ids *identities, s *sockets, natsURL string, secrets *secrets) {
	for name, common := range map[string]*service.Config{
		"gateway": &c.Gateway.Config, "scanner": &c.Scanner.Config, "signer": &c.Signer.Config,
		"verifier": &c.Verifier.Config, "notifier": &c.Notifier.Config,
	} {
		common.TLS = ids.services[name]
		common.NATS.URL = natsURL
		common.Telemetry = c.Telemetry
		if name != "gateway" {
			common.Server.Listen = s.address(name)
			common.Database = sqldb.Config{Driver: sqldb.SQLite, DSN: c.path(name + ".db")}
		}
	}
	c.Gateway.Webhooks.Listen = s.address("gateway")
	c.Signer.ScannerAddress = s.address("scanner")
	c.Signer.VerifierAddress = s.address("verifier")
	c.Notifier.VerifierAddress = s.address("verifier")
	c.Signer.Keystore.Dir = c.path("keys")
	c.Signer.Keystore.Password = config.Secret{File: secrets.keystoreFile}
	c.Signer.Keystore.Generate = true
	c.Verifier.Trust.SignerAddress = s.address("signer")
	c.Verifier.ScannerAddress = s.address("scanner")
	if s.registry == nil {
		return
	}
	host := registry.Host{Host: s.registry.Addr().String(), Insecure: true}
	c.Scanner.Registry.Registries = append(c.Scanner.Registry.Registries, host)
	// Also what was pushed while the all-in-one did not run, by the registry alone.
	c.Scanner.Reconcile.Registries = append(c.Scanner.Reconcile.Registries, scanner.ReconcileSource{Host: host.Host, Catalogue: true})
	c.Signer.Registry.Registries = append(c.Signer.Registry.Registries, host)
	c.Verifier.Registry.Registries = append(c.Verifier.Registry.Registries, host)
	c.Gateway.Sources = append(c.Gateway.Sources, gateway.SourceConfig{
		Name: sourceName, Kind: gateway.KindDistribution, Registry: host.Host,
		Secret: config.Secret{File: secrets.webhookFile},
		// Its clients wait for the gateway's answer: they are slowed down, not refused.
		Rate: gateway.RateConfig{RequestsPerSecond: unlimited, Burst: unlimited},
	})
}

// Subscribe adds a subscriber on this machine.
func (c *Config) Subscribe(name, url, secret string) {
	c.Notifier.Subscriptions = append(c.Notifier.Subscriptions, notifier.SubscriptionConfig{
		Name: name, URL: url, Secret: config.Secret{Value: secret}, AllowPrivateNetworks: true,
	})
}

func contextOf(ids *identities, s *sockets, natsURL string) *fleetcontext.Context {
	c := fleetcontext.New()
	c.Addresses = fleetcontext.Addresses{
		Scanner: s.address("scanner"), Signer: s.address("signer"),
		Verifier: s.address("verifier"), Notifier: s.address("notifier"),
		Gateway: "http://" + s.address("gateway"),
	}
	c.NATS = natsURL
	if s.registry != nil {
		c.Registry = fleetcontext.Registry{Host: s.registry.Addr().String(), Insecure: true}
	}
	c.TLS = ids.operator
	return c
}
