package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Common is embedded as services embed service.Config.
type Common struct {
	Server  server        `yaml:"server"`
	Timeout time.Duration `yaml:"stop_timeout"`
}

type server struct {
	Listen     string `yaml:"listen"`
	MaxMessage Bytes  `yaml:"max_message"`
	Reflection bool   `yaml:"reflection"`
}

type host struct {
	Host     string `yaml:"host"`
	Insecure bool   `yaml:"insecure"`
	Password Secret `yaml:"password"`
}

type sample struct {
	Common  `yaml:",inline"`
	Hosts   []host            `yaml:"hosts"`
	Tags    []string          `yaml:"tags"`
	Backoff []time.Duration   `yaml:"backoff"`
	Labels  map[string]string `yaml:"labels"`
	Token   Secret            `yaml:"token"`
	Ratio   float64           `yaml:"ratio"`
	Limit   *int              `yaml:"limit"`
	Plain   string
	hidden  string
	Runtime string `yaml:"-"`
}

func defaults() sample {
	return sample{
		Common: Common{Server: server{Listen: "127.0.0.1:9101", MaxMessage: 16 << 20}, Timeout: 25 * time.Second},
		Tags:   []string{"a", "b"}, Labels: map[string]string{"x": "1"}, hidden: "h",
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "scanner.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLayers(t *testing.T) {
	file := write(t, `
server:
  listen: 127.0.0.1:1
  max_message: 1MiB
stop_timeout: 5s
hosts:
  - {host: r.example, password: {file: /run/secret}}
tags: [c]
token: {value: from-file}
plain: p
`)
	cfg := defaults()
	err := Load(&cfg, Options{
		File: file, EnvPrefix: "SEAWORTHY_SCANNER",
		Environ: []string{
			"PATH=/bin", "SEAWORTHY_SCANNERS_X=other prefix", "SEAWORTHY_SIGNER_NOPE=1",
			"SEAWORTHY_SCANNER_SERVER_LISTEN=127.0.0.1:2", "SEAWORTHY_SCANNER_SERVER_MAX_MESSAGE=64KiB",
			"SEAWORTHY_SCANNER_STOP_TIMEOUT=7s", "SEAWORTHY_SCANNER_TOKEN_ENV=TOKEN", "SEAWORTHY_SCANNER_TAGS=d,e",
			"SEAWORTHY_SCANNER_PLAIN=yes: [not yaml", "SEAWORTHY_SCANNER_LIMIT=3",
			"SEAWORTHY_SCANNER_HOSTS=[{host: env.example, insecure: true}]",
		},
		Set: []string{"server.listen=127.0.0.1:3", "server.reflection=true", "backoff=[1s, 2s]", "ratio=0.5", "labels={y: '2'}"},
	})
	if err != nil {
		t.Fatal(err)
	}
	three := 3
	want := sample{
		Common:  Common{Server: server{"127.0.0.1:3", 64 << 10, true}, Timeout: 7 * time.Second},
		Hosts:   []host{{Host: "env.example", Insecure: true}},
		Tags:    []string{"d", "e"},
		Backoff: []time.Duration{time.Second, 2 * time.Second},
		Labels:  map[string]string{"y": "2"},
		Token:   Secret{Env: "TOKEN"},
		Ratio:   0.5, Limit: &three, Plain: "yes: [not yaml", hidden: "h",
	}
	if d := cmp.Diff(want, cfg, cmp.AllowUnexported(sample{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestNothingGivenKeepsTheDefaults(t *testing.T) {
	for name, o := range map[string]Options{"no layers": {}, "empty file": {File: write(t, "")}, "comment": {File: write(t, "# nothing\n")}} {
		t.Run(name, func(t *testing.T) {
			cfg := defaults()
			if err := Load(&cfg, o); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(defaults(), cfg, cmp.AllowUnexported(sample{})); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestFileErrorsNameLineAndKey(t *testing.T) {
	tests := map[string]struct {
		text string
		want []string
	}{
		"unknown key": {"server:\n  listem: x\n", []string{`scanner.yaml:2: unknown key "listem" (did you mean listen?)`}},
		"all at once": {"servr: {}\nstop_timeout: soon\nhosts:\n  - hots: a\n", []string{
			`scanner.yaml:1: unknown key "servr" (did you mean server?)`,
			"scanner.yaml:2: cannot unmarshal !!str `soon` into time.Duration",
			`scanner.yaml:4: unknown key "hots" (did you mean host?)`,
		}},
		"nothing near":    {"completely_different: 1\n", []string{`scanner.yaml:1: unknown key "completely_different"`}},
		"duplicate":       {"tags: [a]\ntags: [b]\n", []string{`"tags" already defined at line 1`}},
		"bad size":        {"server:\n  max_message: 5 apples\n", []string{`:2: "5 apples" is not a size`}},
		"size as a list":  {"server:\n  max_message: [1]\n", []string{":2: a size is a number or text"}},
		"syntax":          {"server:\n\tlisten: x\n", []string{"scanner.yaml:2: found character that cannot start any token"}},
		"two documents":   {"tags: [a]\n---\ntags: [b]\n", []string{"more than one YAML document"}},
		"not a map":       {"just text", []string{"scanner.yaml:1: cannot unmarshal"}},
		"two secrets":     {"token: {value: a, file: b}\n", []string{"token: give exactly one of value, file, env"}},
		"secret in list":  {"hosts: [{host: x}, {password: {env: A, file: b}}]\n", []string{"hosts[1].password: give exactly one"}},
		"unexported":      {"hidden: x\n", []string{`unknown key "hidden"`}},
		"left out":        {"runtime: x\n", []string{`unknown key "runtime"`}},
		"embedded's name": {"common: {}\n", []string{`unknown key "common"`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := defaults()
			err := Load(&cfg, Options{File: write(t, tt.text)})
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error:\n%v\nlacks %q", err, w)
				}
			}
			if strings.Contains(err.Error(), "config.sample") && !strings.Contains(name, "map") {
				t.Errorf("error speaks of Go types: %v", err)
			}
		})
	}
}

func TestFileLimits(t *testing.T) {
	cfg := defaults()
	if err := Load(&cfg, Options{File: write(t, "# "+strings.Repeat("x", MaxFile))}); err == nil || !strings.Contains(err.Error(), "more than 1048576 bytes") {
		t.Errorf("large file: %v", err)
	}
	if err := Load(&cfg, Options{File: filepath.Join(t.TempDir(), "none.yaml")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestEnvironmentErrors(t *testing.T) {
	const p = "SEAWORTHY_SCANNER_"
	tests := map[string]struct{ kv, want string }{
		"unknown":      {p + "SERVER_LISTN=x", "environment variable SEAWORTHY_SCANNER_SERVER_LISTN belongs to no key (did you mean SEAWORTHY_SCANNER_SERVER_LISTEN?)"},
		"bad duration": {p + "STOP_TIMEOUT=soon", "environment variable SEAWORTHY_SCANNER_STOP_TIMEOUT: stop_timeout: cannot unmarshal !!str `soon` into time.Duration"},
		"bad bool":     {p + "SERVER_REFLECTION=maybe", "SERVER_REFLECTION"},
		"empty number": {p + "RATIO=", "the value is empty"},
		"comment only": {p + "RATIO=# nothing", "the value is empty"},
		"unknown part": {p + "HOSTS=[{hots: x}]", "field hots not found"},
		"section":      {p + "SERVER={listen: x}", "belongs to no key"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := defaults()
			err := Load(&cfg, Options{EnvPrefix: "SEAWORTHY_SCANNER", Environ: []string{tt.kv}})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestKubernetesServiceVariablesAreNotOurs(t *testing.T) {
	cfg := defaults()
	err := Load(&cfg, Options{EnvPrefix: "SEAWORTHY_SCANNER", Environ: []string{
		"SEAWORTHY_SCANNER_SERVICE_HOST=10.0.0.1", "SEAWORTHY_SCANNER_SERVICE_PORT=9101", "SEAWORTHY_SCANNER_SERVICE_PORT_GRPC=9101",
		"SEAWORTHY_SCANNER_PORT=tcp://10.0.0.1:9101", "SEAWORTHY_SCANNER_PORT_9101_TCP=tcp://10.0.0.1:9101", "SEAWORTHY_SCANNER_PORT_9101_TCP_ADDR=10.0.0.1",
	}})
	if err != nil {
		t.Error(err)
	}
}

func TestSetErrors(t *testing.T) {
	cfg := defaults()
	err := Load(&cfg, Options{Set: []string{"server.listn=x", "novalue", "ratio=high"}})
	for _, want := range []string{"--set server.listn: no such key (did you mean server.listen?)", "--set novalue: want key.path=value", "--set ratio: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
}

func TestAmbiguousVariableIsRefused(t *testing.T) {
	cfg := struct {
		A struct {
			BC string `yaml:"b_c"`
		} `yaml:"a"`
		AB struct {
			C string `yaml:"c"`
		} `yaml:"a_b"`
	}{}
	if err := Load(&cfg, Options{EnvPrefix: "X"}); err == nil || !strings.Contains(err.Error(), "a.b_c and a_b.c share the variable X_A_B_C") {
		t.Errorf("error %v", err)
	}
}

func TestLoadWantsAPointerToAStruct(t *testing.T) {
	var nilCfg *sample
	for _, cfg := range []any{nil, sample{}, nilCfg, new(int)} {
		if err := Load(cfg, Options{}); err == nil {
			t.Errorf("%T is accepted", cfg)
		}
	}
}

func TestDescribe(t *testing.T) {
	cfg := defaults()
	cfg.Token.Value = "hunter2"
	var got []string
	for _, k := range Describe(&cfg) {
		got = append(got, k.Path+"="+k.Default)
	}
	for _, want := range []string{"server.listen=127.0.0.1:9101", "server.max_message=16MiB", "stop_timeout=25s", "tags=[a, b]", "token.value=[redacted]", "hosts=", "plain="} {
		if !slices.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
}

func TestBytes(t *testing.T) {
	for in, want := range map[string]Bytes{"0": 0, "1": 1, "4096": 4096, "64KiB": 64 << 10, "16 MiB": 16 << 20, "2GiB": 2 << 30, "1TiB": 1 << 40, "5kB": 5000, "5MB": 5e6, "7B": 7} {
		got, err := ParseBytes(in)
		if err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v; want %d", in, got, err, want)
		}
		if back, err := ParseBytes(got.String()); err != nil || back != got {
			t.Errorf("%q came back as %d, %v", got.String(), back, err)
		}
	}
	for _, in := range []string{"", "-1", "1.5MiB", "MiB", "16mib", "9223372036854775807KiB", "1e3"} {
		if got, err := ParseBytes(in); err == nil {
			t.Errorf("ParseBytes(%q) = %d", in, got)
		}
	}
}

func TestProblems(t *testing.T) {
	var p Problems
	p.Errorf("a", "is %d", 1)
	p.In("server").In("tls").Errorf("key", "is missing")
	p.In("server").Errorf("", "as a whole")
	p.In("server").Warnf("reflection", "is on")
	p.Errorf("a", "is %d", 1)
	if got, want := p.Err().Error(), "a: is 1\nserver.tls.key: is missing\nserver: as a whole"; got != want {
		t.Errorf("Err:\n%s\nwant\n%s", got, want)
	}
	if d := cmp.Diff([]string{"server.reflection: is on"}, p.Warnings()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if err := new(Problems).Err(); err != nil {
		t.Errorf("nothing found: %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("server:\n  listen: x\n", "server.listen=y", "SEAWORTHY_SCANNER_TAGS=a,b")
	f.Add("hosts: [{host: x, password: {file: y}}]", "labels={a: b}", "SEAWORTHY_SCANNER_TOKEN_VALUE=x")
	f.Add("a: &a [*a]", "x", "=")
	f.Add("server: !!binary x\n", "limit=~", "SEAWORTHY_SCANNER_LIMIT=1")
	f.Add("---\n---\n", "ratio=.nan", "SEAWORTHY_SCANNER_BACKOFF=1s")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, file, set, env string) {
		path := filepath.Join(dir, "fuzz.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := defaults()
		err := Load(&cfg, Options{File: path, EnvPrefix: "SEAWORTHY_SCANNER", Environ: []string{env}, Set: []string{set}})
		if err != nil {
			return
		}
		if cfg.hidden != "h" || cfg.Runtime != "" {
			t.Fatalf("a field without a key changed: %+v", cfg)
		}
		Describe(&cfg)
	})
}

func ExampleLoad() {
	type serverConfig struct {
		Listen string `yaml:"listen"`
	}
	cfg := struct {
		Server serverConfig `yaml:"server"`
	}{serverConfig{"127.0.0.1:9101"}}

	err := Load(&cfg, Options{
		EnvPrefix: "SEAWORTHY_SCANNER",
		Environ:   []string{"SEAWORTHY_SCANNER_SERVER_LISTEN=127.0.0.1:9999"},
	})
	fmt.Println(cfg.Server.Listen, err)

	fmt.Println(Load(&cfg, Options{Set: []string{"server.listn=x"}}))
	// Output:
	// 127.0.0.1:9999 <nil>
	// --set server.listn: no such key (did you mean server.listen?)
}
