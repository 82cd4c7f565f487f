package service

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
)

// childEnv makes the test binary run as a service, for signals and exit codes.
const childEnv = "SEAWORTHY_SERVICE_TEST_CHILD"

func runAsChild() bool {
	if os.Getenv(childEnv) == "" {
		return false
	}
	Main(definition(func(Deps) (App, error) { return testApp(untilStopped), nil }))
	return true
}

func TestSIGTERMStopsInOrderWithExitCode0(t *testing.T) {
	f := newFixture(t)
	file := filepath.Join(f.dir, "scanner.yaml")
	text := fmt.Sprintf("admin: {listen: '127.0.0.1:0'}\ntls: {ca_file: %s, cert_file: %s}\ndatabase: {dsn: %s}\n",
		f.cfg.TLS.CAFile, f.cfg.TLS.CertFile, f.cfg.Database.DSN)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f.admin.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "--config", file, "--set", "nats.url="+f.cfg.NATS.URL)
	cmd.Env = append(os.Environ(), childEnv+"=1", "SEAWORTHY_SCANNER_TLS_KEY_FILE="+f.cfg.TLS.KeyFile)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(testWait, func() { cmd.Process.Kill() })
	var log bytes.Buffer
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		fmt.Fprintln(&log, lines.Text())
		if strings.Contains(lines.Text(), "admin server listening") {
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the process ended with %v; log:\n%s", err, log.String())
	}
	if !strings.Contains(log.String(), `"msg":"service stopped"`) {
		t.Errorf("log:\n%s", log.String())
	}
}

func TestExecute(t *testing.T) {
	f := newFixture(t)
	f.admin.Close()
	tls := []string{"--set", "tls.ca_file=" + f.cfg.TLS.CAFile, "--set", "tls.cert_file=" + f.cfg.TLS.CertFile, "--set", "tls.key_file=" + f.cfg.TLS.KeyFile}
	d := definition(func(Deps) (App, error) { return nil, errors.New("boom") })
	tests := map[string]struct {
		args, environ []string
		wantCode      int
		stdout        []string
		stderr        []string
	}{
		"help": {
			args: []string{"--help"}, wantCode: 0,
			stdout: []string{"seaworthy-scanner: ", "--check", "SEAWORTHY_SCANNER_SERVER_LISTEN is server.listen", "server.listen                    127.0.0.1:9101", "color                            grey", "  tls.ca_file\n"},
		},
		"version":       {args: []string{"--version"}, wantCode: 0, stdout: []string{"seaworthy-scanner devel"}},
		"unknown flag":  {args: []string{"--nope"}, wantCode: 2, stderr: []string{"unknown flag: --nope", "Try --help"}},
		"argument":      {args: []string{"serve"}, wantCode: 2, stderr: []string{`unexpected argument "serve"`}},
		"no file":       {args: []string{"--config", "none.yaml"}, wantCode: 2, stderr: []string{"none.yaml"}},
		"unknown key":   {args: []string{"--set", "colour=red"}, wantCode: 2, stderr: []string{"did you mean color?"}},
		"unknown env":   {environ: []string{"SEAWORTHY_SCANNER_COLOUR=red"}, wantCode: 2, stderr: []string{"did you mean SEAWORTHY_SCANNER_COLOR?"}},
		"check, valid":  {args: append([]string{"--check"}, tls...), wantCode: 0, stdout: []string{"configuration is valid"}},
		"check, unwise": {args: append([]string{"--check", "--set", "color=red"}, tls...), wantCode: 0, stderr: []string{"warning: color: is hard to read"}, stdout: []string{"valid"}},
		"check, invalid": {args: []string{"--check", "--set", "color=pink", "--set", "stop_timeout=0s"}, wantCode: 2, stderr: []string{
			"configuration is not valid:\n", "tls.ca_file: must be given", "tls.key_file: must be given", "stop_timeout: 0s is less than 100ms", `color: "pink"`,
		}},
		"run, invalid": {wantCode: 2, stderr: []string{"configuration is not valid", "tls.ca_file: must be given"}},
		"run, failed": {args: append([]string{"--set", "admin.listen=127.0.0.1:0", "--set", "database.dsn=" + f.cfg.Database.DSN, "--set", "nats.url=" + f.cfg.NATS.URL}, tls...),
			wantCode: 1, stderr: []string{"component service: start: boom"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := execute(t.Context(), d, tt.args, tt.environ, &stdout, &stderr); code != tt.wantCode {
				t.Errorf("exit code %d, want %d", code, tt.wantCode)
			}
			for _, want := range tt.stdout {
				if !strings.Contains(stdout.String(), want) {
					t.Errorf("stdout lacks %q:\n%s", want, stdout.String())
				}
			}
			for _, want := range tt.stderr {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("stderr lacks %q:\n%s", want, stderr.String())
				}
			}
		})
	}
}

func TestDefaultConfig(t *testing.T) {
	for name, want := range defaultPorts {
		c := DefaultConfig(name)
		if !strings.HasSuffix(c.Server.Listen, ":"+want.server) || !strings.HasSuffix(c.Admin.Listen, ":"+want.admin) {
			t.Errorf("%s listens on %s and %s", name, c.Server.Listen, c.Admin.Listen)
		}
		if (c.Database != sqldb.Config{}) != (name != "gateway") {
			t.Errorf("%s has the database %+v", name, c.Database)
		}
		// All that has no default is where the identity is.
		d := definition(nil)
		d.NeedsDatabase = name != "gateway"
		cfg := testConfig{Config: c, Color: "grey"}
		p := Check(d, &cfg)
		if err := p.Err(); err == nil || strings.Count(err.Error(), "\n") != 2 || strings.Count(err.Error(), "tls.") != 3 || len(p.Warnings()) != 0 {
			t.Errorf("%s: errors %v, warnings %q", name, err, p.Warnings())
		}
	}
}

func ExampleCheck() {
	d := definition(nil)
	cfg, err := Load(d, "", nil, []string{"color=pink", "tls.ca_file=ca.crt", "tls.cert_file=a.crt", "tls.key_file=a.key"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(Check(d, &cfg).Err())
	// Output: color: "pink" is neither grey nor red
}
