package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/nats-io/nats.go"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/fleet"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/tests/internal/allinone"
	"github.com/seaworthy-dev/seaworthy/tests/internal/distribution"
	"github.com/seaworthy-dev/seaworthy/tests/internal/images"
	"github.com/seaworthy-dev/seaworthy/tests/internal/otlptest"
	"github.com/seaworthy-dev/seaworthy/tests/internal/repo"

	gateway "github.com/seaworthy-dev/seaworthy/services/gateway/app"
	notifier "github.com/seaworthy-dev/seaworthy/services/notifier/app"
	scanner "github.com/seaworthy-dev/seaworthy/services/scanner/app"
)

// The secrets that a test gives to the fleet. Each is found in no other.
const (
	webhookSecret    = "webhook-SECRET-0f3c61f1aa2b4c7d9e8f"
	mistypedSecret   = "mistyped-SECRET-1a77c0d2e95b4f6e8c3d"
	misdirected      = "misdirected-SECRET-1f60b4c8d2e35a7c9d1e"
	registryPassword = "password-SECRET-2b8e4f5a6c7d8e9f0a1b"
	registryToken    = "token-SECRET-3c9f5a6b7d8e9f0a1b2c3d4e"
	presigned        = "presigned-SECRET-4d0a6b7c8e9f0a1b2c3d"
	hookPath         = "hookpath-SECRET-5e1b7c8d9f0a1b2c3d4e"
	hookQuery        = "hookquery-SECRET-6f2c8d9e0a1b2c3d4e5f"
	feedToken        = "feedtoken-SECRET-7a3d9e0f1b2c3d4e5f6a"
	feedPassword     = "feedpass-SECRET-8b4e0f1a2c3d4e5f6a7b"
	otlpToken        = "otlp-SECRET-9c5f1a2b3d4e5f6a7b8c9d0e"
	signingSecret    = "c2lnbmluZy1TRUNSRVQtMGQ2YTJiM2M0ZTVmNmE3YjhjOWQwZTFm"
)

// secretsServer is everything outside the fleet that secrets are shared with: a registry
// with token exchange and presigned storage, feeds, and subscribers. Where it fails, it
// repeats in its answer what it was sent, as careless servers do.
type secretsServer struct {
	host  string
	proxy *httputil.ReverseProxy

	mu      sync.Mutex
	uploads map[string]bool // the states of uploads that it handed out
	heard   map[string]bool // the ways on which it was sent a secret
}

var uploadState = regexp.MustCompile(`_state=([^&]{16,})`)

func startSecretsServer(t *testing.T) *secretsServer {
	t.Helper()
	s := &secretsServer{uploads: map[string]bool{}, heard: map[string]bool{}}
	behind := &url.URL{Scheme: "http", Host: distribution.Start(t)}
	s.proxy = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(behind); r.Out.Host = r.In.Host }}
	s.proxy.ModifyResponse = func(resp *http.Response) error {
		if m := uploadState.FindStringSubmatch(resp.Header.Get("Location")); m != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.uploads[m[1]] = true
		}
		return nil
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.host = strings.TrimPrefix(server.URL, "http://")
	return s
}

func (s *secretsServer) hear(way string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard[way] = true
}

// ServeHTTP implements http.Handler.
func (s *secretsServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	repeat := fmt.Sprintf("refused: http://%s%s Authorization: %s", s.host, r.URL, r.Header.Get("Authorization"))
	user, password, basic := r.BasicAuth()
	switch {
	case r.URL.Path == "/token":
		if basic && user == "robot" && password == registryPassword {
			s.hear("basic")
			fmt.Fprintf(w, `{"token":%q}`, registryToken)
			return
		}
		http.Error(w, repeat, http.StatusUnauthorized)
	case strings.HasPrefix(r.URL.Path, "/feed/"):
		s.hear("feed")
		http.Error(w, repeat, http.StatusInternalServerError)
	case r.URL.Path == "/scores.csv":
		s.hear("scores")
		io.WriteString(w, "#model_version:v2025.03.14,score_date:2026-11-01T00:00:00Z\ncve,epss,percentile\nCVE-2023-38545,0.5,0.9\n")
	case strings.HasPrefix(r.URL.Path, "/moved/"):
		s.hear("moved feed")
		http.Redirect(w, r, "http://127.0.0.1:1/?X-Amz-Signature="+presigned, http.StatusFound)
	case strings.HasPrefix(r.URL.Path, "/hook/"):
		s.hear("hook")
		http.Error(w, repeat+" "+r.Header.Get("Webhook-Signature"), http.StatusInternalServerError)
	case strings.HasPrefix(r.URL.Path, "/storage/"):
		s.hear("storage")
		if strings.Contains(r.URL.Path, "/refused/") {
			http.Error(w, repeat, http.StatusForbidden)
			return
		}
		r.URL.Path, r.URL.RawQuery = strings.TrimPrefix(r.URL.Path, "/storage"), ""
		s.proxy.ServeHTTP(w, r)
	case r.Header.Get("Authorization") != "Bearer "+registryToken:
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="registry"`, s.host))
		http.Error(w, repeat, http.StatusUnauthorized)
	case strings.HasPrefix(r.URL.Path, "/v2/secrets/denied/"):
		s.hear("denied")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":%q}]}`, repeat)
	case r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha256:"):
		to := "http://" + s.host + "/storage"
		if strings.Contains(r.URL.Path, "/gone/") {
			to = "http://127.0.0.1:1" // answers nobody: the error quotes the URL
		}
		http.Redirect(w, r, to+r.URL.Path+"?X-Amz-Signature="+presigned, http.StatusTemporaryRedirect)
	default:
		s.proxy.ServeHTTP(w, r)
	}
}

func (s *secretsServer) push(t *testing.T, img v1.Image, repository string) string {
	t.Helper()
	ref, err := name.ParseReference(s.host+"/"+repository+":1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	if err := remote.Write(ref, img, remote.WithContext(t.Context()), remote.WithTransport(transport),
		remote.WithAuth(&authn.Basic{Username: "robot", Password: registryPassword})); err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

// TestE2E_SecretsStayInside sends known secrets through every way in and out of a fleet,
// also where the other side fails and repeats them, and looks for them in everything that
// somebody else can read.
func TestE2E_SecretsStayInside(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20"+otlpToken)
	s := startSecretsServer(t)
	spans := otlptest.Start(t)
	a := &secretsRun{outside: s, AllInOne: allinone.Start(t, func(c *fleet.Config) { configureSecrets(c, s, spans) })}
	events := a.observe(t)
	told := map[string]string{"problem documents": a.badWebhooks(t)} // what the fleet says, by where

	// One image is judged, the others fail in different ways.
	good := a.push(t, images.Clean(t, "secrets"), "secrets/good")
	if v := a.Verdict(t, good); v.GetState() != verifierv1.Verdict_STATE_PASS {
		t.Fatalf("the image is %s %v", v.GetState(), v.GetReasons())
	}
	a.push(t, images.Clean(t, "refused"), "secrets/refused/app")
	a.push(t, images.Clean(t, "gone"), "secrets/gone/app")
	a.report(t, "secrets/denied/app", good)
	a.awaitFailures(t, events)
	told["seaworthyctl"] = a.commands(t)

	told["spans"], told["logs"], told["events"] = spans.Text(), a.Logs.String(), events()
	told["metrics and health"] = scrape(t, a.AllInOne, "/metrics", "/readyz", "/healthz", "/debug/pprof/cmdline", "/debug/vars")
	told["files"] = atRest(t, a.DataDir())
	for _, way := range []string{"basic", "feed", "moved feed", "scores", "hook", "storage", "denied"} {
		if !s.heard[way] {
			t.Errorf("the test sends no secret by the way %s", way)
		}
	}
	if len(s.uploads) == 0 {
		t.Error("the test starts no upload")
	}
	// A problem document names the path of its request; only its sender reads it.
	for secret, forms := range s.secrets(t, a.DataDir()) {
		for _, form := range forms {
			for where, text := range told {
				if at := strings.Index(text, form); at >= 0 && (form != misdirected || where != "problem documents") {
					t.Errorf("%s are told the %s: …%q…", where, secret, text[max(0, at-300):min(len(text), at+len(form)+100)])
				}
			}
		}
	}
	for where, text := range told {
		if len(text) < 1000 {
			t.Errorf("%s say next to nothing: %q", where, text)
		}
	}
}

// secretsRun is a fleet with a server outside.
type secretsRun struct {
	*allinone.AllInOne

	outside *secretsServer
}

func configureSecrets(c *fleet.Config, s *secretsServer, spans *otlptest.Receiver) {
	c.Telemetry.LogLevel = "debug"
	c.Telemetry.OTLPEndpoint, c.Telemetry.OTLPInsecure, c.Telemetry.SampleRatio = spans.Endpoint(), true, 1
	host := registry.Host{Host: s.host, Insecure: true, Username: "robot", Password: config.Secret{Value: registryPassword}}
	for _, r := range []*registry.Config{&c.Scanner.Registry, &c.Signer.Registry.Config, &c.Verifier.Registry} {
		r.Registries, r.MaxAttempts = append(r.Registries, host), 1
	}
	c.Gateway.Sources = append(c.Gateway.Sources, gateway.SourceConfig{
		Name: "outside", Kind: gateway.KindDistribution, Registry: s.host, Secret: config.Secret{Value: webhookSecret},
	})
	c.Scanner.NATS.MaxDeliver, c.Scanner.NATS.Backoff = 2, []time.Duration{50 * time.Millisecond}
	c.Scanner.Reconcile.Registries = append(c.Scanner.Reconcile.Registries, scanner.ReconcileSource{Host: s.host, Catalogue: true})
	feeds := slices.Grow(c.Scanner.Advisories.Feeds, 3)[:3]
	feeds[0].Name, feeds[0].URL = "failing", "http://reader:"+feedPassword+"@"+s.host+"/feed/all.zip?token="+feedToken
	feeds[1].Name, feeds[1].URL = "moved", "http://"+s.host+"/moved/all.zip?token="+feedToken
	feeds[2].Name, feeds[2].URL = "scores", "http://"+s.host+"/scores.csv?token="+feedToken
	c.Scanner.Advisories.Feeds = feeds
	c.Notifier.Delivery.Schedule = []time.Duration{0, 50 * time.Millisecond}
	for name, url := range map[string]string{
		"refusing": "http://" + s.host + "/hook/" + hookPath + "?token=" + hookQuery,
		"away":     "http://127.0.0.1:1/hook/" + hookPath + "?token=" + hookQuery,
	} {
		c.Notifier.Subscriptions = append(c.Notifier.Subscriptions, notifier.SubscriptionConfig{
			Name: name, URL: url, Secret: config.Secret{Value: "whsec_" + signingSecret}, AllowPrivateNetworks: true,
		})
	}
}

// secrets are all, each in the forms that it may appear in.
func (s *secretsServer) secrets(t *testing.T, dataDir string) map[string][]string {
	t.Helper()
	all := map[string][]string{
		"webhook secret":           {webhookSecret},
		"mistyped webhook secret":  {mistypedSecret},
		"secret in a path":         {misdirected},
		"registry password":        {registryPassword, base64.StdEncoding.EncodeToString([]byte("robot:" + registryPassword))},
		"registry token":           {registryToken},
		"presigned URL":            {presigned},
		"subscriber's path":        {hookPath},
		"subscriber's query":       {hookQuery},
		"signing secret":           {signingSecret, "signing-SECRET"},
		"feed's token":             {feedToken},
		"feed's password":          {feedPassword, base64.StdEncoding.EncodeToString([]byte("reader:" + feedPassword))},
		"collector's token":        {otlpToken},
		"upload states":            slices.Collect(maps.Keys(s.uploads)),
		"keystore password":        {fileContent(t, dataDir, "secrets", "keystore-password")},
		"embedded webhook secret":  {fileContent(t, dataDir, "secrets", "webhook")},
		"encrypted signing key":    {strings.Split(fileContent(t, dataDir, "keys", "cosign.key"), "\n")[2]},
		"key of the operator":      {strings.Split(fileContent(t, dataDir, "certs", "operator.key"), "\n")[1]},
		"key of the authority":     {strings.Split(fileContent(t, dataDir, "certs", "ca.key"), "\n")[1]},
		"key of the event server":  {strings.Split(fileContent(t, dataDir, "certs", "nats.key"), "\n")[1]},
		"key of the event account": {strings.Split(fileContent(t, dataDir, "certs", "scanner.key"), "\n")[1]},
	}
	return all
}

func fileContent(t *testing.T, elem ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(content))
}

// observe collects all events.
func (a *secretsRun) observe(t *testing.T) func() string {
	t.Helper()
	var mu sync.Mutex
	var all strings.Builder
	if _, err := a.NATS.Subscribe("seaworthy.evt.>", func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&all, "%s %v %s\n", m.Subject, m.Header, m.Data)
	}); err != nil {
		t.Fatal(err)
	}
	if err := a.NATS.Flush(); err != nil {
		t.Fatal(err)
	}
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return all.String()
	}
}

// webhook sends what is said to be a push, and returns the answer with its body.
func (a *secretsRun) webhook(t *testing.T, method, path, authorization, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, a.GatewayURL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/vnd.docker.distribution.events.v2+json")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	return get(t, req)
}

func get(t *testing.T, req *http.Request) string {
	t.Helper()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s %v %s\n", resp.Status, resp.Header, body)
}

// badWebhooks are all answered by a problem document.
func (a *secretsRun) badWebhooks(t *testing.T) string {
	t.Helper()
	var answers strings.Builder
	const path = "/webhooks/v1/distribution/outside"
	for _, query := range []string{"", "?token=" + webhookSecret, "?token=" + mistypedSecret} {
		for _, authorization := range []string{"", "Bearer " + mistypedSecret, "Basic " + mistypedSecret, "Bearer " + webhookSecret} {
			for _, body := range []string{"", webhookSecret, `{"events":[{"id":"` + webhookSecret + `"}]}`} {
				answers.WriteString(a.webhook(t, http.MethodPost, path+query, authorization, body))
			}
			answers.WriteString(a.webhook(t, http.MethodPut, path+query, authorization, ""))
			answers.WriteString(a.webhook(t, http.MethodPost, path+"/"+misdirected+query, authorization, ""))
		}
	}
	return answers.String()
}

// push pushes an image to the registry outside and reports it, with the secret in the URL too.
func (a *secretsRun) push(t *testing.T, img v1.Image, repository string) string {
	t.Helper()
	digest := a.outside.push(t, img, repository)
	a.report(t, repository, digest)
	return digest
}

func (a *secretsRun) report(t *testing.T, repository, digest string) {
	t.Helper()
	answer := a.webhook(t, http.MethodPost, "/webhooks/v1/distribution/outside?token="+webhookSecret, "Bearer "+webhookSecret,
		fmt.Sprintf(`{"events":[{"id":"secrets","action":"push","target":{"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
			`"repository":%q,"tag":"1","digest":%q}}]}`, repository, digest))
	if !strings.HasPrefix(answer, "2") {
		t.Fatalf("the gateway answers %s", answer)
	}
}

// commands runs the command line client, with tables and JSON.
func (a *secretsRun) commands(t *testing.T) string {
	t.Helper()
	var out bytes.Buffer
	image := func(repository string) string { return a.outside.host + "/" + repository + ":1" }
	for _, args := range [][]string{
		{"context", "show"}, {"keys", "list"}, {"trust-bundle", "--timeout=10s"}, {"advisories", "status"}, {"advisories", "refresh"},
		{"deadletter", "list"}, {"deadletter", "show", "1"}, {"deadletter", "show", "2"}, {"deliveries", "--limit=10"}, {"policy", "list"},
		{"verdict", image("secrets/good")}, {"verdict", image("secrets/denied/app")}, {"verdict", image("secrets/refused/app")},
		{"history", image("secrets/good")}, {"explain", image("secrets/good")}, {"findings", image("secrets/good")},
		{"sbom", image("secrets/good")}, {"attestations", image("secrets/good")}, {"attestations", image("secrets/denied/app")},
		{"scan", "--wait", image("secrets/denied/app")}, {"scan", "--wait", image("secrets/refused/app")}, {"scan", "--wait", image("secrets/gone/app")},
	} {
		formats := []string{"table", "json"}
		if args[0] == "attestations" || args[1] == "refresh" {
			formats = formats[:1] // these ask the servers outside, and take their time
		}
		for _, format := range formats {
			cmd := exec.CommandContext(t.Context(), filepath.Join(repo.Root(t), "bin", "seaworthyctl"), append(args, "-o", format, "--timeout", "20s")...)
			cmd.Env = append(os.Environ(), "SEAWORTHY_CONTEXT="+a.ContextFile())
			cmd.Stdout, cmd.Stderr = &out, &out
			fmt.Fprintf(&out, "$ %v\n", args)
			if err := cmd.Run(); err != nil {
				fmt.Fprintln(&out, err) // many must fail
			}
		}
	}
	return out.String()
}

// awaitFailures waits until the three failing images and all notifications are given up.
func (a *secretsRun) awaitFailures(t *testing.T, events func() string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		logs := a.Logs.String()
		missing := ""
		for _, repository := range []string{"denied", "refused", "gone"} {
			if !regexp.MustCompile(`deadletter\.scanner.*secrets/` + repository + `/app`).MatchString(events()) {
				missing = repository
			}
		}
		switch {
		case missing == "" && strings.Contains(logs, "notification given up"):
			return
		case time.Now().After(end):
			t.Fatalf("missing: the dead letter of %q, or a delivery that was given up", missing)
		}
	}
}

// atRest is the content of all files of the fleet but those that are there to hold secrets:
// certs, keys and secrets.
func atRest(t *testing.T, dir string) string {
	t.Helper()
	var all bytes.Buffer
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (rel == "certs" || rel == "keys" || rel == "secrets"):
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		content, err := os.ReadFile(path)
		fmt.Fprintf(&all, "\n%s: ", rel)
		all.Write(content)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all.String()
}
