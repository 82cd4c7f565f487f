package app_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/eventbustest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/events/eventstest"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	"github.com/seaworthy-dev/seaworthy/services/gateway/app"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "a-secret-of-the-registry-32-bytes"

func source() app.SourceConfig {
	return app.SourceConfig{
		Name: "main", Kind: app.KindDistribution, Registry: "registry.example:5000",
		Secret: config.Secret{Value: secret},
	}
}

// startGateway runs a gateway on a bus and returns its URL.
func startGateway(t *testing.T, fleet *eventstest.Fleet) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := app.Default()
	cfg.Sources = []app.SourceConfig{source()}
	tel := obs.Discard("gateway")
	bus := fleet.BusWith("gateway", tel)
	readiness := lifecycle.NewReadiness()
	readiness.Probe("eventbus", bus.Ready)
	ctx, cancel := context.WithCancel(t.Context())
	if err := bus.Ensure(ctx); err != nil {
		t.Fatal(err)
	}
	common := service.DefaultConfig("gateway")
	common.StopTimeout = 5 * time.Second
	gateway, err := app.New(ctx, cfg, service.Deps{
		Config: common, Name: "gateway", Telemetry: tel, Bus: bus, Readiness: readiness,
		TLS:      fleet.TLS(tlsx.ServiceID(eventbustest.TrustDomain, "gateway")),
		Listener: listener, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- gateway.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return "http://" + listener.Addr().String()
}

func post(t *testing.T, url, id string) *http.Response {
	t.Helper()
	body := fmt.Sprintf(`{"events":[{"id":%q,"action":"push","target":{"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
		`"repository":"team/app","tag":"1.0","digest":"sha256:%064d"}}]}`, id, 7)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/webhooks/v1/distribution/main", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	req.Header.Set("Content-Type", "application/vnd.docker.distribution.events.v2+json")
	req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp
}

// inbox collects what the scanner would get.
type inbox struct {
	mu     sync.Mutex
	events []*eventv1.ImagePushedEvent
	more   chan struct{}
}

func consume(t *testing.T, fleet *eventstest.Fleet) *inbox {
	t.Helper()
	box := &inbox{more: make(chan struct{}, 100)}
	bus := fleet.Bus("scanner")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := events.Consume(ctx, bus, events.ConsumerScannerScan, 1,
			func(_ context.Context, e *eventv1.ImagePushedEvent, _ *eventbus.Delivery) error {
				box.mu.Lock()
				defer box.mu.Unlock()
				box.events = append(box.events, e)
				box.more <- struct{}{}
				return nil
			})
		if err != nil {
			t.Errorf("consume: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return box
}

func (b *inbox) next(t *testing.T) *eventv1.ImagePushedEvent {
	t.Helper()
	select {
	case <-b.more:
	case <-time.After(20 * time.Second):
		t.Fatal("no event")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.events[len(b.events)-1]
}

func TestGateway_pushBecomesEvent(t *testing.T) {
	fleet := eventstest.Start(t)
	box := consume(t, fleet)
	url := startGateway(t, fleet)
	for range 2 { // a registry that missed the answer repeats the event
		if resp := post(t, url, "e1"); resp.StatusCode != http.StatusAccepted {
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	e := box.next(t)
	if e.GetImage().GetRegistry() != "registry.example:5000" || e.GetImage().GetRepository() != "team/app" ||
		e.GetImage().GetTag() != "1.0" || e.GetWebhookSource() != "main" || e.GetCause() != eventv1.ImagePushedEvent_CAUSE_WEBHOOK {
		t.Errorf("event %v", e)
	}
	if got := e.GetMeta().GetTraceId(); got != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("trace %s is not the sender's", got)
	}
	if resp := post(t, url, "e2"); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("status %d", resp.StatusCode)
	}
	if second := box.next(t); second.GetMeta().GetEventId() == e.GetMeta().GetEventId() {
		t.Error("two events of the registry have one id")
	}
	if len(box.events) != 2 {
		t.Errorf("%d events, want 2: the repetition is one fact", len(box.events))
	}
}

func TestGateway_busDownAndBack(t *testing.T) {
	fleet := eventstest.Start(t)
	fleet.Config.PublishTimeout = 300 * time.Millisecond
	url := startGateway(t, fleet)
	if resp := post(t, url, "e1"); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("status %d", resp.StatusCode)
	}
	fleet.Stop()
	resp := post(t, url, "e2")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Fatalf("bus down: status %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	if got := get(t, url+"/readyz"); got != http.StatusServiceUnavailable {
		t.Errorf("readyz says %d while the bus is down", got)
	}
	if got := get(t, url+"/healthz"); got != http.StatusOK {
		t.Errorf("healthz says %d while the bus is down", got)
	}
	fleet.Start()
	deadline := time.Now().Add(20 * time.Second)
	for post(t, url, "e2").StatusCode != http.StatusAccepted {
		if time.Now().After(deadline) {
			t.Fatal("not accepted after the bus came back")
		}
	}
}

func get(t *testing.T, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestValidate(t *testing.T) {
	valid := func() app.Config {
		c := app.Default()
		c.TLS = tlsx.Config{CAFile: "ca", CertFile: "crt", KeyFile: "key"}
		c.Sources = []app.SourceConfig{source()}
		return c
	}
	c := valid()
	if p := service.Check(app.Definition, &c); p.Err() != nil || len(p.Warnings()) > 0 {
		t.Fatalf("%v, warnings %v", p.Err(), p.Warnings())
	}
	other := source()
	other.Name, other.Registry = "other", "other.example"
	for name, tt := range map[string]struct {
		change func(*app.Config)
		want   string
	}{
		"name":         {func(c *app.Config) { c.Sources[0].Name = "a/b" }, "sources[0].name"},
		"kind":         {func(c *app.Config) { c.Sources[0].Kind = "harbor" }, "sources[0].kind"},
		"registry":     {func(c *app.Config) { c.Sources[0].Registry = "http://x" }, "sources[0].registry"},
		"no secret":    {func(c *app.Config) { c.Sources[0].Secret = config.Secret{} }, "sources[0].secret"},
		"short secret": {func(c *app.Config) { c.Sources[0].Secret.Value = "short" }, "sources[0].secret"},
		"same name":    {func(c *app.Config) { c.Sources = append(c.Sources, source()) }, "sources[1].name"},
		"same secret":  {func(c *app.Config) { c.Sources = append(c.Sources, other) }, "sources[1].secret"},
		"body":         {func(c *app.Config) { c.Webhooks.MaxBody = 1 }, "webhooks.max_body"},
		"events":       {func(c *app.Config) { c.Webhooks.MaxEvents = 0 }, "webhooks.max_events"},
		"concurrency":  {func(c *app.Config) { c.Webhooks.MaxConcurrent = 0 }, "webhooks.max_concurrent"},
		"timeout":      {func(c *app.Config) { c.Webhooks.BodyTimeout = 0 }, "webhooks.body_timeout"},
		"rate":         {func(c *app.Config) { c.Rate.RequestsPerSecond = 0 }, "rate.requests_per_second"},
		"half TLS":     {func(c *app.Config) { c.Webhooks.TLS.CertFile = "x" }, "webhooks.tls"},
		"listen":       {func(c *app.Config) { c.Webhooks.Listen = "x" }, "webhooks.listen"},
		"gRPC":         {func(c *app.Config) { c.Server.Listen = ":1" }, "server"},
	} {
		t.Run(name, func(t *testing.T) {
			c := valid()
			tt.change(&c)
			if err := service.Check(app.Definition, &c).Err(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one about %s", err, tt.want)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	text := `
webhooks:
  listen: 127.0.0.1:0
  max_body: 64KiB
  body_timeout: 2s
sources:
  - name: main
    kind: distribution
    registry: registry.example:5000
    secret: {value: a-secret-of-the-registry-32-bytes}
    rate: {requests_per_second: 5, burst: 10}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := service.Load(app.Definition, file, []string{"SEAWORTHY_GATEWAY_WEBHOOKS_MAX_EVENTS=9"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Webhooks.MaxBody != 64<<10 || c.Webhooks.MaxEvents != 9 || c.Sources[0].Rate.Burst != 10 || c.Webhooks.HeaderTimeout != 5*time.Second {
		t.Errorf("%+v", c.Webhooks)
	}
}
