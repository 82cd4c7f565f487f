package app_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/services/verifier/app"
)

const example = `
tls: {ca_file: ca.crt, cert_file: verifier.crt, key_file: verifier.key}
registry:
  registries:
    - host: registry.example
policies:
  builtin: []
  dir: ../../../deploy/policies
trust:
  signer_address: signer:9102
scanner_address: scanner:9101
`

func load(t *testing.T, text string, set ...string) (app.Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "verifier.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return service.Load(app.Definition, file, nil, set)
}

func TestConfig(t *testing.T) {
	t.Parallel()
	cfg, err := load(t, example)
	if err != nil {
		t.Fatal(err)
	}
	p := service.Check(app.Definition, &cfg)
	if err := p.Err(); err != nil || len(p.Warnings()) > 0 {
		t.Errorf("%v, warnings %v", err, p.Warnings())
	}
	if len(cfg.Policies.Builtin) != 0 || cfg.Policies.Dir == "" || cfg.Concurrency != app.Default().Concurrency {
		t.Errorf("config %+v", cfg)
	}
}

func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	cfg, err := load(t, example, "trust.signer_address=", "trust.refresh=1ms", "policies.builtin=[nope]",
		"limits.max_attestations=0", "concurrency=0", "scanner_address=")
	if err != nil {
		t.Fatal(err)
	}
	problems := service.Check(app.Definition, &cfg).Err()
	if problems == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"trust.signer_address: without a signer, keys or identities", "trust.refresh: 1ms is less than 1s", `there is no policy pack "nope"`,
		"limits.max_attestations: must be more than zero", "concurrency: 0 is not between", "scanner_address: the scanner's address is needed",
	} {
		if !strings.Contains(problems.Error(), want) {
			t.Errorf("problems:\n%v\nlack %q", problems, want)
		}
	}
	faulty := filepath.Join(t.TempDir(), "faulty.yaml")
	if err := os.WriteFile(faulty, []byte("apiVersion: seaworthy.dev/v2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err = load(t, example, "policies.files=["+faulty+"]")
	if err != nil {
		t.Fatal(err)
	}
	if err := service.Check(app.Definition, &cfg).Err(); err == nil || !strings.Contains(err.Error(), "faulty.yaml:1:13: apiVersion: must be") {
		t.Errorf("faulty policy: %v", err)
	}
	if _, err := load(t, example+"polices: {}\n"); err == nil || !strings.Contains(err.Error(), "polices") {
		t.Errorf("unknown key: %v", err)
	}
	for _, tc := range []struct{ set, want string }{
		{"trust.identities=[{issuer: https://i.example, subject: a@b}]", "certificates need authorities: set trust.sigstore_root"},
		{"trust.identities=[{issuer_regexp: '('}]", "issuer_regexp"},
		{"trust.roots=[{keys: [" + faulty + "], states: ['https://a.example/x']}]", "trust.roots: each needs a name"},
		{"trust.roots=[{name: a, states: ['https://a.example/x']}]", "a needs keys or identities"},
		{"trust.roots=[{name: a, keys: [" + faulty + "]}]", "a needs states, the predicate types that it may state"},
		{"trust.roots=[{name: a, keys: [" + faulty + "], states: ['*']}]", `a: "*" in states is not a predicate type`},
		{"trust.roots=[{name: a, keys: [" + faulty + "], states: ['https://slsa.dev/provenance/*']}]", "there are no patterns"},
		{"trust.roots=[{name: a, keys: [" + faulty + "], states: [provenance]}]", "it has to be the whole URI"},
		{"trust.roots=[{name: a, keys: [" + faulty + "], states: ['https://a.example/x', 'https://a.example/x']}]", "https://a.example/x is in states twice"},
		{"trust.roots=[{name: a, keys: [" + faulty + "], states: ['https://a.example/x']}, {name: a, keys: [" + faulty + "], states: ['https://a.example/x']}]", `the name "a" is used twice`},
		{"trust.roots=[{name: a, keys: [" + faulty + "], states: ['https://a.example/x']}]", "trust root a: trusted key"},
		{"trust.roots=[{name: a, keys: [" + faulty + "], predicate_types: ['https://a.example/x']}]", "predicate_types"},
		{"trust.sigstore_root=" + faulty, "trust.sigstore_root: trusted root"},
		{"vex.authors=[{keys: [" + faulty + "]}]", "needs a name"},
		{"vex.authors=[{name: a}]", "a needs keys or identities"},
		{"vex.authors=[{name: a, keys: [" + faulty + "]}]", "VEX author a: trusted key"},
		{"vex.dir=/nowhere", "read VEX documents"},
		{"limits.verdict_cache=-1", "limits"},
		{"limits.evidence_cache=-1", "limits"},
		{"overdue.overtaken_after=59s", "overdue.overtaken_after: 59s is less than 1m"},
		{"overdue.after=59m", "overdue.after: 59m0s is less than overtaken_after, 1h0m0s"},
	} {
		cfg, err := load(t, example, tc.set)
		if err == nil {
			err = service.Check(app.Definition, &cfg).Err()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.set, err, tc.want)
		}
	}
	cfg, err = load(t, strings.Replace(example, "dir: ../../../deploy/policies", "files: []", 1))
	if err != nil {
		t.Fatal(err)
	}
	if w := service.Check(app.Definition, &cfg).Warnings(); len(w) != 1 || !strings.Contains(w[0], "there is no policy") {
		t.Errorf("warnings without a policy: %v", w)
	}
}
