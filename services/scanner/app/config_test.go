package app_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/services/scanner/app"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/feeds"
)

func TestConfig(t *testing.T) {
	valid := func() app.Config {
		c := app.Default()
		c.TLS.CAFile, c.TLS.CertFile, c.TLS.KeyFile = "ca", "cert", "key"
		c.Registry.Registries = []registry.Host{{Host: "r.example"}}
		c.Advisories.Seed = []string{"deploy/advisories"}
		return c
	}
	c := valid()
	if p := service.Check(app.Definition, &c); p.Err() != nil || len(p.Warnings()) != 0 {
		t.Errorf("defaults: %v, %v", p.Err(), p.Warnings())
	}
	for path, change := range map[string]func(*app.Config){
		"scan.concurrency":            func(c *app.Config) { c.Scan.Concurrency = 0 },
		"scan.layers":                 func(c *app.Config) { c.Scan.Layers = 100 },
		"scan.timeout":                func(c *app.Config) { c.Scan.Timeout = 0 },
		"scan.layer_retention":        func(c *app.Config) { c.Scan.LayerRetention = time.Minute },
		"scan.layer_memory":           func(c *app.Config) { c.Scan.LayerMemory = -1 },
		"advisories.refresh_interval": func(c *app.Config) { c.Advisories.RefreshInterval = 0 },
		"advisories.max_records":      func(c *app.Config) { c.Advisories.MaxRecords = 0 },
		"limits.max_buffered":         func(c *app.Config) { c.Limits.MaxBuffered = c.Limits.MaxInMemory - 1 },
		"advisories.feed_interval":    func(c *app.Config) { c.Advisories.FeedInterval = time.Second },
		"advisories.feed_timeout":     func(c *app.Config) { c.Advisories.FeedTimeout = 0 },
		"advisories.feeds[0].name":    func(c *app.Config) { c.Advisories.Feeds = []feeds.Feed{{URL: "x"}} },
		"advisories.feeds[0].url":     func(c *app.Config) { c.Advisories.Feeds = []feeds.Feed{{Name: "x"}} },
		"advisories.feeds[1].name":    func(c *app.Config) { c.Advisories.Feeds = []feeds.Feed{{Name: "x", URL: "a"}, {Name: "x", URL: "b"}} },
		"advisories.feeds[1].url": func(c *app.Config) {
			c.Advisories.Feeds = []feeds.Feed{{Name: "x", URL: "a"}, {Name: "y", URL: "ftp://b"}}
		},
		"limits.max_depth":              func(c *app.Config) { c.Limits.MaxDepth = 0 },
		"reconcile.interval":            func(c *app.Config) { c.Reconcile.Interval = time.Second },
		"reconcile.timeout":             func(c *app.Config) { c.Reconcile.Timeout = 0 },
		"reconcile.requests_per_second": func(c *app.Config) { c.Reconcile.RequestsPerSecond = math.NaN() },
		"reconcile.max_repositories":    func(c *app.Config) { c.Reconcile.MaxRepositories = 0 },
		"reconcile.max_tags":            func(c *app.Config) { c.Reconcile.MaxTags = 1 << 30 },
		"reconcile.max_checks":          func(c *app.Config) { c.Reconcile.MaxChecks = -1 },
		"reconcile.registries[0].host": func(c *app.Config) {
			c.Reconcile.Registries = []app.ReconcileSource{{Host: "other.example", Catalogue: true}}
		},
		"reconcile.registries[0]": func(c *app.Config) { c.Reconcile.Registries = []app.ReconcileSource{{Host: "r.example"}} },
		"reconcile.registries[1].host": func(c *app.Config) {
			c.Reconcile.Registries = []app.ReconcileSource{{Host: "r.example", Catalogue: true}, {Host: "r.example", Catalogue: true}}
		},
		"reconcile.registries[0].repositories[0]": func(c *app.Config) {
			c.Reconcile.Registries = []app.ReconcileSource{{Host: "r.example", Repositories: []string{"Team/App"}}}
		},
		"reconcile.registries[0].repositories[1]": func(c *app.Config) {
			c.Reconcile.Registries = []app.ReconcileSource{{Host: "r.example", Repositories: []string{"a", "a"}}}
		},
		"registry.registries[0].host": func(c *app.Config) { c.Registry.Registries[0].Host = "not a host" },
	} {
		c := valid()
		change(&c)
		if err := service.Check(app.Definition, &c).Err(); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	c = valid()
	c.Advisories.Seed = nil
	if p := service.Check(app.Definition, &c); p.Err() != nil || len(p.Warnings()) != 1 {
		t.Errorf("no seed: %v, %v", p.Err(), p.Warnings())
	}
	c.Advisories.Feeds = []feeds.Feed{{Name: "a", URL: "https://feeds.example/all.zip"}, {Name: "b", URL: "/srv/osv"}}
	if p := service.Check(app.Definition, &c); p.Err() != nil || len(p.Warnings()) != 0 {
		t.Errorf("feeds: %v, %v", p.Err(), p.Warnings())
	}
	c.Advisories.Feeds[0].URL = "http://feeds.example/all.zip"
	if p := service.Check(app.Definition, &c); p.Err() != nil || len(p.Warnings()) != 1 {
		t.Errorf("a feed that is not encrypted: %v, %v", p.Err(), p.Warnings())
	}
}

// TestKeys: every key can be set from the environment, and unknown ones are errors.
func TestKeys(t *testing.T) {
	c, err := service.Load(app.Definition, "", []string{"SEAWORTHY_SCANNER_LIMITS_MAX_FILE=1MiB", "SEAWORTHY_SCANNER_SCAN_LAYERS=7"}, []string{"scan.concurrency=3"})
	if err != nil || c.Limits.MaxFile != config.Bytes(1<<20) || c.Scan.Layers != 7 || c.Scan.Concurrency != 3 {
		t.Errorf("%+v, %v", c.Limits, err)
	}
	if _, err := service.Load(app.Definition, "", []string{"SEAWORTHY_SCANNER_LIMITS_NONE=1"}, nil); err == nil {
		t.Error("an unknown variable is accepted")
	}
}
