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
