package fleetcontext_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/fleetcontext"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

func full(dir string) *fleetcontext.Context {
	c := fleetcontext.New()
	c.Addresses = fleetcontext.Addresses{
		Scanner: "127.0.0.1:9101", Signer: "127.0.0.1:9102", Verifier: "127.0.0.1:9103", Notifier: "127.0.0.1:9104",
		Gateway: "http://127.0.0.1:8080",
	}
	c.NATS = "nats://127.0.0.1:4222"
	c.Registry = fleetcontext.Registry{Host: "127.0.0.1:5000", Insecure: true}
	c.TLS = tlsx.Config{CAFile: filepath.Join(dir, "pki", "ca.crt"), CertFile: filepath.Join(dir, "pki", "operator.crt"), KeyFile: "/elsewhere/operator.key"}
	return c
}

func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, fleetcontext.FileName)
	if err := fleetcontext.Save(path, full(dir)); err != nil {
		t.Fatal(err)
	}
	got, err := fleetcontext.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(full(dir), got); d != "" {
		t.Errorf("context changed on its way (-saved +loaded):\n%s", d)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, %v; want 0600", info.Mode(), err)
	}

	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	got, err = fleetcontext.Load(filepath.Join(moved, fleetcontext.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(full(moved).TLS, got.TLS); d != "" {
		t.Errorf("TLS files of a moved directory:\n%s", d)
	}
}

func TestLoad_refuses(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: seaworthy.dev/v1\nkind: Context\ntls: {ca_file: a, cert_file: b, key_file: c}\n"
	for name, tc := range map[string]struct{ content, want string }{
		"empty":          {"", "apiVersion"},
		"unknown key":    {head + "address: x\n", "address"},
		"other kind":     {strings.Replace(head, "Context", "Policy", 1), "kind"},
		"no certificate": {"apiVersion: seaworthy.dev/v1\nkind: Context\n", "tls"},
		"bad address":    {head + "addresses: {scanner: localhost}\n", "addresses.scanner"},
		"bad gateway":    {head + "addresses: {gateway: localhost}\n", "addresses.gateway"},
		"bad NATS":       {head + "nats: localhost:4222\n", "nats"},
		"bad domain":     {head + "trust_domain: Sea/Worthy\n", "trust_domain"},
	} {
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := fleetcontext.Load(path); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: Load() = %v, want %q in it", name, err, tc.want)
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write := func(parts ...string) string {
		path := filepath.Join(append([]string{root}, parts...)...)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	flag, env := write("flag.yaml"), write("env.yaml")
	local, user := write("work", ".seaworthy", "context.yaml"), write("config", "seaworthy", "context.yaml")
	all := fleetcontext.Places{Flag: flag, Env: env, WorkDir: filepath.Join(root, "work"), ConfigDir: filepath.Join(root, "config")}
	noUser := all
	noUser.Flag, noUser.Env = "", ""
	for _, tc := range []struct {
		want, by string
		change   func(*fleetcontext.Places)
	}{
		{flag, "--context", func(*fleetcontext.Places) {}},
		{env, "$SEAWORTHY_CONTEXT", func(p *fleetcontext.Places) { p.Flag = "" }},
		{user, "your configuration directory", func(p *fleetcontext.Places) { p.Flag, p.Env = "", "" }},
		{user, "your configuration directory", func(p *fleetcontext.Places) { p.Flag, p.Env, p.WorkDir = "", "", root }},
	} {
		p := all
		tc.change(&p)
		if got, err := fleetcontext.Find(p); err != nil || got.File != tc.want || got.By != tc.by {
			t.Errorf("Find(%+v) = %q, %v; want %q", p, got, err, tc.want)
		}
	}
	// The folder's own counts only for whoever started its fleet, and only unchanged.
	if err := os.Remove(user); err != nil {
		t.Fatal(err)
	}
	refused := func(when string) {
		t.Helper()
		if got, err := fleetcontext.Find(noUser); !errors.Is(err, fleetcontext.ErrNoFleet) || !strings.Contains(err.Error(), "name it with --context") {
			t.Errorf("%s: %+v, %v", when, got, err)
		}
	}
	refused("not registered")
	files := map[string]string{}
	c := full(filepath.Dir(local))
	c.TLS.KeyFile = filepath.Join(filepath.Dir(local), "pki", "operator.key")
	for _, file := range []string{c.TLS.CAFile, c.TLS.CertFile, c.TLS.KeyFile} {
		files[file] = "content of " + filepath.Base(file)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(files[file]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := fleetcontext.Save(local, c); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := fleetcontext.Register(noUser.ConfigDir, local); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := fleetcontext.Find(noUser); err != nil || got.File != local {
		t.Errorf("registered: %+v, %v", got, err)
	}
	registry := filepath.Join(noUser.ConfigDir, "seaworthy", "fleets")
	if content, err := os.ReadFile(registry); err != nil || strings.Count(string(content), "\n") != 1 {
		t.Errorf("registry: %q, %v", content, err)
	}
	if info, err := os.Stat(registry); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("registry: %v, %v", info, err)
	}
	other := noUser
	other.ConfigDir = filepath.Join(root, "another user's")
	if _, err := fleetcontext.Find(other); !errors.Is(err, fleetcontext.ErrNoFleet) {
		t.Errorf("another user: %v", err)
	}
	// Nor with other TLS files than run wrote, of which the certificate authority decides
	// who may answer.
	for file, content := range files {
		for _, other := range []string{"", content + " ", "another"} {
			if err := os.WriteFile(file, []byte(other), 0o600); err != nil {
				t.Fatal(err)
			}
			refused("changed " + file)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		refused("missing " + file)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := fleetcontext.Find(noUser); err != nil {
			t.Errorf("as it was: %v", err)
		}
	}
	for _, content := range []string{"addresses: {verifier: evil.example:1}\n", ""} {
		if err := os.WriteFile(local, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		refused("changed")
	}
	for _, p := range []fleetcontext.Places{
		{Flag: filepath.Join(root, "missing"), Env: env, WorkDir: all.WorkDir},
		{Env: filepath.Join(root, "missing"), WorkDir: all.WorkDir},
		{WorkDir: root},
	} {
		if _, err := fleetcontext.Find(p); !errors.Is(err, fleetcontext.ErrNoFleet) {
			t.Errorf("Find(%+v) = %v, want ErrNoFleet", p, err)
		}
	}
}
