package app_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/services/signer/app"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
)

func TestConfig_EveryKeyIsInTheReadme(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	cfg := app.Default()
	common := map[string]bool{}
	for _, k := range config.Describe(&cfg.Config) {
		common[k.Path] = true
	}
	for _, k := range config.Describe(&cfg) {
		key := k.Path
		if strings.HasPrefix(key, "keystore.password.") {
			key = "keystore.password"
		}
		if !common[key] && !strings.Contains(string(readme), "`"+key+"`") {
			t.Errorf("README.md does not name %s", key)
		}
	}
}

func TestConfig_Validate(t *testing.T) {
	password := config.Secret{File: "password"}
	keyless := func(change func(*app.IdentityConfig)) func(*app.Config) {
		return func(c *app.Config) {
			i := app.IdentityConfig{
				Name: "ci", Type: app.TypeKeyless, Issuer: "https://oidc.example", Subject: "a@example.org",
				Token: config.Secret{File: "token"}, Witnesses: []string{app.WitnessTimestamp},
			}
			change(&i)
			c.Identities = []app.IdentityConfig{i}
			c.Sigstore.SigningConfig, c.Sigstore.TrustedRoot = "signing_config.json", "trusted_root.json"
			c.Keystore = app.KeystoreConfig{}
		}
	}
	tests := []struct {
		name    string
		change  func(*app.Config)
		err     string // "" means none
		warning string
	}{
		{"default with a password", func(*app.Config) {}, "", "no registry"},
		{"no password", func(c *app.Config) { c.Keystore.Password = config.Secret{} }, "keystore.password", ""},
		{"password in the file", func(c *app.Config) { c.Keystore.Password = config.Secret{Value: "x"} }, "", "keystore.password.value"},
		{"no directory", func(c *app.Config) { c.Keystore.Dir = "" }, "keystore.dir", ""},
		{"replicas that generate", func(c *app.Config) { c.Keystore.Generate, c.Database.Driver = true, "postgres" }, "", "keystore.generate"},
		{"bad scanner", func(c *app.Config) { c.ScannerAddress = "scanner" }, "scanner_address", ""},
		{"bad verifier", func(c *app.Config) { c.VerifierAddress = "" }, "verifier_address", ""},
		{"verifier is no URI", func(c *app.Config) { c.VerifierID = "verifier" }, "verifier_id", ""},
		{"no worker", func(c *app.Config) { c.Concurrency = 0 }, "concurrency", ""},
		{"too many workers", func(c *app.Config) { c.Concurrency = 1000 }, "concurrency", ""},
		{"small reports", func(c *app.Config) { c.MaxReport = 1 }, "max_report", ""},
		{"unknown algorithm", func(c *app.Config) { c.Keystore.Algorithm = "rsa" }, "keystore.algorithm", ""},
		{"negative age", func(c *app.Config) { c.Lifetime.MaxAge = -1 }, "lifetime.max_age", ""},
		{"no grace", func(c *app.Config) { c.Lifetime.Grace = time.Minute }, "lifetime.grace", ""},
		{"no grace needed", func(c *app.Config) { c.Lifetime.Grace, c.Lifetime.DeleteSuperseded = 0, false }, "", ""},
		{"restless sweeper", func(c *app.Config) { c.Lifetime.SweepInterval = 0 }, "lifetime.sweep_interval", ""},
		{"unknown registry kept", func(c *app.Config) { c.Lifetime.KeepRegistries = []string{"other.example"} }, "lifetime.keep_registries[0]", ""},
		{"no bill of materials", func(c *app.Config) { c.SBOM.Formats = nil }, "sbom.formats", ""},
		{"unknown bill of materials", func(c *app.Config) { c.SBOM.Formats = []core.SBOMFormat{core.SPDXJSON, "syft-json"} }, "sbom.formats[1]", ""},
		{"the same one twice", func(c *app.Config) { c.SBOM.Formats = []core.SBOMFormat{core.SPDXJSON, core.SPDXJSON} }, "sbom.formats[1]", ""},
		{"CycloneDX alone", func(c *app.Config) { c.SBOM.Formats = []core.SBOMFormat{core.CycloneDXJSON} }, "", "sbom.formats"},
		{"keyless", keyless(func(*app.IdentityConfig) {}), "", ""},
		{"keyless without token", keyless(func(i *app.IdentityConfig) { i.Token = config.Secret{} }), "identities[0].token", ""},
		{"token in the file", keyless(func(i *app.IdentityConfig) { i.Token = config.Secret{Value: "x"} }), "identities[0].token.value", ""},
		{"nobody's certificate", keyless(func(i *app.IdentityConfig) { i.Subject = "" }), "identities[0].issuer", ""},
		{"no proof of the time", keyless(func(i *app.IdentityConfig) { i.Witnesses = nil }), "identities[0].witnesses", ""},
		{"unknown witness", keyless(func(i *app.IdentityConfig) { i.Witnesses = []string{"x"} }), "identities[0].witnesses[0]", ""},
		{"witness twice", keyless(func(i *app.IdentityConfig) { i.Witnesses = []string{"log", "log"} }), "identities[0].witnesses[1]", ""},
		{"unknown type", keyless(func(i *app.IdentityConfig) { i.Type = "x" }), "identities[0].type", ""},
		{"bad name", keyless(func(i *app.IdentityConfig) { i.Name = "C I" }), "identities[0].name", ""},
		{"no Sigstore", func(c *app.Config) {
			keyless(func(*app.IdentityConfig) {})(c)
			c.Sigstore.TrustedRoot = ""
		}, "sigstore", ""},
		{"name used twice", func(c *app.Config) {
			keyless(func(*app.IdentityConfig) {})(c)
			c.Identities = append(c.Identities, c.Identities[0])
		}, "identities[1].name", ""},
		{"key in a KMS", func(c *app.Config) {
			c.Identities, c.Keystore = []app.IdentityConfig{{Name: "a", Type: app.TypeKMS, Key: "awskms:///alias/signer"}}, app.KeystoreConfig{Dir: "keys"}
		}, "", ""},
		{"nowhere to record revocations of a KMS key", func(c *app.Config) {
			c.Identities, c.Keystore = []app.IdentityConfig{{Name: "a", Type: app.TypeKMS, Key: "awskms:///alias/signer"}}, app.KeystoreConfig{}
		}, "keystore.dir", ""},
		{"no key in a KMS", func(c *app.Config) { c.Identities = []app.IdentityConfig{{Name: "a", Type: app.TypeKMS}} }, "identities[0].key", ""},
		{"a program as KMS", func(c *app.Config) {
			c.Identities = []app.IdentityConfig{{Name: "a", Type: app.TypeKMS, Key: "../x://key"}}
		}, "identities[0].key", ""},
		{"URI of the key store", func(c *app.Config) {
			c.Identities = []app.IdentityConfig{{Name: "a", Type: app.TypeKey, Key: "awskms://x"}}
		}, "identities[0].key", ""},
		{"no time for the KMS", func(c *app.Config) { c.KMS.Timeout = 0 }, "kms.timeout", ""},
		{"no failure of a registry", func(c *app.Config) { c.Registry.MaxFailures = 0 }, "registry.max_failures", ""},
		{"registry left alone for long", func(c *app.Config) { c.Registry.Cooldown = 24 * time.Hour }, "registry.cooldown", ""},
		{"two key stores", func(c *app.Config) {
			c.Identities = []app.IdentityConfig{{Name: "a", Type: app.TypeKey}, {Name: "b", Type: app.TypeKey}}
		}, "identities[1].type", ""},
		{"key with an issuer", func(c *app.Config) {
			c.Identities = []app.IdentityConfig{{Name: "a", Type: app.TypeKey, Issuer: "x"}}
		}, "identities[0].type", ""},
		{"Ed25519 in a log", func(c *app.Config) {
			c.Identities = []app.IdentityConfig{{Name: "a", Type: app.TypeKey, Witnesses: []string{app.WitnessLog}}}
			c.Sigstore.SigningConfig, c.Sigstore.TrustedRoot = "a", "b"
			c.Keystore.Algorithm = "ed25519"
		}, "identities[0].witnesses", ""},
		{"too many identities", func(c *app.Config) { c.Identities = make([]app.IdentityConfig, 9) }, "identities: ", ""},
		{"Sigstore for nothing", func(c *app.Config) { c.Sigstore.TrustedRoot = "x" }, "", "sigstore"},
		{"no time for Rekor", func(c *app.Config) { c.Sigstore.Rekor.Timeout = 0 }, "sigstore.rekor.timeout", ""},
		{"no attempt at Fulcio", func(c *app.Config) { c.Sigstore.Fulcio.Attempts = 0 }, "sigstore.fulcio.attempts", ""},
		{"no failure of the authority", func(c *app.Config) { c.Sigstore.Timestamp.MaxFailures = 0 }, "sigstore.timestamp.max_failures", ""},
		{"left alone for long", func(c *app.Config) { c.Sigstore.Timestamp.Cooldown = 24 * time.Hour }, "sigstore.timestamp.cooldown", ""},
		{"huge documents", func(c *app.Config) { c.MaxSBOM = 1 << 30 }, "max_sbom", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := app.Default()
			cfg.Keystore.Password = password
			tt.change(&cfg)
			p := &config.Problems{}
			cfg.Validate(p)
			err := p.Err()
			if (err == nil) != (tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error = %v, want one with %q", err, tt.err)
			}
			if w := strings.Join(p.Warnings(), "\n"); !strings.Contains(w, tt.warning) {
				t.Errorf("warnings = %q, want one with %q", w, tt.warning)
			}
		})
	}
}
