package procs

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"text/template"
)

// The configuration files of the fleet. They say only what a deployment must say;
// everything else is left to the defaults, which are thereby tested too.
var configs = map[string]string{
	"gateway": `
webhooks: {listen: "127.0.0.1:{{.Port "gateway"}}"}
sources:
  - {name: tests, kind: distribution, registry: "{{.Registry}}", secret: {value: {{.Secret}}}}
`,
	"scanner": `
server: {listen: "127.0.0.1:{{.Port "scanner"}}"}
database: {driver: postgres, dsn: "{{.DSN}}"}
registry: {registries: [{host: "{{.Registry}}", insecure: true}]}
advisories: {seed: ["{{.Root}}/deploy/advisories"]}
`,
	"signer": `
server: {listen: "127.0.0.1:{{.Port "signer"}}"}
database: {driver: postgres, dsn: "{{.DSN}}"}
registry: {registries: [{host: "{{.Registry}}", insecure: true}]}
scanner_address: "127.0.0.1:{{.Port "scanner"}}"
verifier_address: "127.0.0.1:{{.Port "verifier"}}"
keystore: {dir: "{{.Dir}}/keys", generate: true, password: {value: a-password-for-the-tests}}
`,
	"verifier": `
server: {listen: "127.0.0.1:{{.Port "verifier"}}"}
database: {driver: postgres, dsn: "{{.DSN}}"}
registry: {registries: [{host: "{{.Registry}}", insecure: true}]}
trust: {signer_address: "127.0.0.1:{{.Port "signer"}}", refresh: 1s}
scanner_address: "127.0.0.1:{{.Port "scanner"}}"
`,
	"notifier": `
server: {listen: "127.0.0.1:{{.Port "notifier"}}"}
database: {driver: postgres, dsn: "{{.DSN}}"}
verifier_address: "127.0.0.1:{{.Port "verifier"}}"
delivery: {schedule: [0s, 200ms, 1s, 1s, 2s, 2s, 5s, 5s], timeout: 2s, lease: 4s, poll: 100ms}
subscriptions:
  - name: tests
    url: "http://{{.Subscriber}}/"
    secret: {value: whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=}
    allow_private_networks: true
`,
}

const common = `
admin: {listen: "127.0.0.1:{{.Admin .Service}}"}
tls: {ca_file: "{{.Dir}}/certs/ca.crt", cert_file: "{{.Dir}}/certs/{{.Service}}.crt", key_file: "{{.Dir}}/certs/{{.Service}}.key"}
nats: {url: "nats://127.0.0.1:{{.NATS}}", backoff: [200ms, 500ms, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s]}
telemetry: {log_level: info, log_format: text{{if .OTLP}}, otlp_endpoint: "{{.OTLP}}", otlp_insecure: true, sample_ratio: 1{{end}}}
stop_timeout: 10s
`

const contextFile = `
apiVersion: seaworthy.dev/v1
kind: Context
trust_domain: seaworthy.local
addresses:
  scanner: "127.0.0.1:{{.Port "scanner"}}"
  signer: "127.0.0.1:{{.Port "signer"}}"
  verifier: "127.0.0.1:{{.Port "verifier"}}"
  notifier: "127.0.0.1:{{.Port "notifier"}}"
  gateway: "http://127.0.0.1:{{.Port "gateway"}}"
nats: "nats://127.0.0.1:{{.NATS}}"
registry: {host: "{{.Registry}}", insecure: true}
tls: {ca_file: certs/ca.crt, cert_file: certs/operator.crt, key_file: certs/operator.key}
`

type values struct {
	f                                 *Fleet
	Service, DSN, Dir, Root, Registry string
	Subscriber, Secret, OTLP          string
	NATS                              int
}

func (v values) Port(service string) int  { return v.f.ports[service] }
func (v values) Admin(service string) int { return v.f.admin[service] }

func (f *Fleet) values(service, dsn string) values {
	return values{
		f: f, Service: service, DSN: dsn, Dir: f.Dir, Root: f.root, Registry: f.Registry.Addr(),
		Subscriber: f.Subscriber.Addr(), Secret: webhookSecret, OTLP: f.otlp, NATS: f.nats,
	}
}

func (f *Fleet) writeConfigs(dsn string) {
	f.t.Helper()
	for service, text := range configs {
		f.write(service+".yaml", text+common, f.values(service, dsn))
	}
}

func (f *Fleet) writeContext() {
	f.t.Helper()
	f.write("context.yaml", contextFile, f.values("", ""))
}

func (f *Fleet) write(name, text string, v values) {
	f.t.Helper()
	var b bytes.Buffer
	t, err := template.New(name).Parse(strings.TrimLeft(text, "\n"))
	if err == nil {
		err = t.Execute(&b, v)
	}
	if err == nil {
		err = os.WriteFile(f.path(name), b.Bytes(), 0o600)
	}
	if err != nil {
		f.t.Fatal(fmt.Errorf("write %s: %w", name, err))
	}
}
