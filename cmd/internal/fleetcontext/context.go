// Package fleetcontext is the context file: where a fleet's services are and
// which certificate to show them. The all-in-one writes one into its data
// directory, and seaworthyctl finds and reads it.
package fleetcontext

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// Values of every context file.
const (
	APIVersion = "seaworthy.dev/v1"
	Kind       = "Context"
	// FileName is the name of a context file in the directories that are searched.
	FileName = "context.yaml"
	// DefaultTrustDomain is meant by a context without trust domain.
	DefaultTrustDomain = "seaworthy.local"
)

// Context tells where a fleet is.
type Context struct {
	APIVersion string `yaml:"apiVersion" json:"apiVersion"`
	Kind       string `yaml:"kind" json:"kind"`
	// TrustDomain is that of the services' SPIFFE IDs.
	TrustDomain string `yaml:"trust_domain" json:"trust_domain"`
	// Addresses says where the services listen.
	Addresses Addresses `yaml:"addresses" json:"addresses"`
	// NATS is the URL of the event bus; empty if it cannot be reached from here.
	NATS string `yaml:"nats,omitempty" json:"nats,omitempty"`
	// Registry is the fleet's own registry, if it has one: images named without
	// a registry are looked for there.
	Registry Registry `yaml:"registry,omitempty" json:"registry"`
	// TLS names the files of the caller's own certificate. Relative paths are
	// relative to the context file.
	TLS tlsx.Config `yaml:"tls" json:"-"`
}

// Addresses are those of the services: host:port of the gRPC servers, and the
// URL of the gateway. A service that cannot be reached from here is empty.
type Addresses struct {
	Scanner  string `yaml:"scanner,omitempty" json:"scanner,omitempty"`
	Signer   string `yaml:"signer,omitempty" json:"signer,omitempty"`
	Verifier string `yaml:"verifier,omitempty" json:"verifier,omitempty"`
	Notifier string `yaml:"notifier,omitempty" json:"notifier,omitempty"`
	Gateway  string `yaml:"gateway,omitempty" json:"gateway,omitempty"`
}

// Registry is where images are.
type Registry struct {
	// Host is the name and port as it stands in image references.
	Host string `yaml:"host,omitempty" json:"host,omitempty"`
	// Insecure means plain http.
	Insecure bool `yaml:"insecure,omitempty" json:"insecure,omitempty"`
}

// New returns a context with its fixed values set.
func New() *Context {
	return &Context{APIVersion: APIVersion, Kind: Kind, TrustDomain: DefaultTrustDomain}
}

// Load reads a context file. Unknown keys and malformed addresses are errors,
// all of them in one; the paths of the TLS files come back absolute.
func Load(path string) (*Context, error) {
	c := &Context{}
	if err := config.Load(c, config.Options{File: path}); err != nil {
		return nil, err
	}
	if c.TrustDomain == "" {
		c.TrustDomain = DefaultTrustDomain
	}
	var p config.Problems
	c.Validate(&p)
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("context file %s: %w", path, err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("context file %s: %w", path, err)
	}
	for _, file := range c.tlsFiles() {
		if !filepath.IsAbs(*file) {
			*file = filepath.Join(dir, *file)
		}
	}
	return c, nil
}

// Save writes the context to path, which it replaces in one step, readable by
// this user only. TLS files below the file's directory are written relative to
// it, so that the directory can be moved.
func Save(path string, c *Context) error {
	var p config.Problems
	c.Validate(&p)
	if err := p.Err(); err != nil {
		return fmt.Errorf("context: %w", err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write context: %w", err)
	}
	out := *c
	for _, file := range out.tlsFiles() {
		if *file, err = filepath.Abs(*file); err != nil {
			return fmt.Errorf("write context: %w", err)
		}
		if rel, err := filepath.Rel(dir, *file); err == nil && filepath.IsLocal(rel) {
			*file = rel
		}
	}
	var b bytes.Buffer
	b.WriteString("# Where the fleet is and which certificate to show it; read by seaworthyctl.\n")
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(&out), enc.Close()); err != nil {
		return fmt.Errorf("write context: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write context: %w", err)
	}
	f, err := os.CreateTemp(dir, ".context.*")
	if err != nil {
		return fmt.Errorf("write context: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already after the rename
	_, err = f.Write(b.Bytes())
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write context: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write context: %w", err)
	}
	return nil
}

func (c *Context) tlsFiles() []*string {
	return []*string{&c.TLS.CAFile, &c.TLS.CertFile, &c.TLS.KeyFile}
}

// Validate adds what is wrong with the context to p.
func (c *Context) Validate(p *config.Problems) {
	if c.APIVersion != APIVersion {
		p.Errorf("apiVersion", "is %q, want %q", c.APIVersion, APIVersion)
	}
	if c.Kind != Kind {
		p.Errorf("kind", "is %q, want %q", c.Kind, Kind)
	}
	if _, err := tlsx.ParseID(tlsx.ServiceID(c.TrustDomain, "x")); err != nil {
		p.Errorf("trust_domain", "invalid trust domain %q", c.TrustDomain)
	}
	for _, a := range []struct{ key, address string }{
		{"scanner", c.Addresses.Scanner}, {"signer", c.Addresses.Signer},
		{"verifier", c.Addresses.Verifier}, {"notifier", c.Addresses.Notifier},
	} {
		if a.address == "" {
			continue
		}
		if _, port, err := net.SplitHostPort(a.address); err != nil || port == "" {
			p.Errorf("addresses."+a.key, "%q is not host:port", a.address)
		}
	}
	if a := c.Addresses.Gateway; a != "" && !isURL(a, "http", "https") {
		p.Errorf("addresses.gateway", "%q is not an http URL", a)
	}
	if c.NATS != "" && !isURL(c.NATS, "nats", "tls") {
		p.Errorf("nats", "%q is not nats://host:port", c.NATS)
	}
	if c.TLS.CAFile == "" || c.TLS.CertFile == "" || c.TLS.KeyFile == "" {
		p.Errorf("tls", "ca_file, cert_file and key_file must be set")
	}
}

func isURL(s string, schemes ...string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return false
	}
	for _, want := range schemes {
		if u.Scheme == want {
			return true
		}
	}
	return false
}
