package app_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	notifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/notifier/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/authz"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/eventbustest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/events/eventstest"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	"github.com/seaworthy-dev/seaworthy/services/notifier/app"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	secret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	digest = "sha256:" + strings.Repeat("a", 64)
)

// subscriber is an HTTP server that notifications are posted to.
type subscriber struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	got    chan received
}

type received struct {
	id, traceparent string
	body            []byte
}

func newSubscriber(t *testing.T) *subscriber {
	t.Helper()
	s := &subscriber{status: http.StatusOK, got: make(chan received, 100)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		status := s.status
		s.mu.Unlock()
		w.WriteHeader(status)
		s.got <- received{r.Header.Get("Webhook-Id"), r.Header.Get("Traceparent"), body}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *subscriber) answer(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

func (s *subscriber) next(t *testing.T) received {
	t.Helper()
	select {
	case r := <-s.got:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("no notification")
		return received{}
	}
}

func (s *subscriber) none(t *testing.T, wait time.Duration) {
	t.Helper()
	select {
	case r := <-s.got:
		t.Errorf("notified of %s", r.id)
	case <-time.After(wait):
	}
}

// running is one process of the notifier.
type running struct {
	addr string
	stop func()
}

func start(t *testing.T, fleet *eventstest.Fleet, database sqldb.Config, change func(*app.Config)) running {
	t.Helper()
	tel := obs.Discard("notifier")
	db, err := sqldb.Open(t.Context(), database, "notifier")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := app.Default()
	cfg.Delivery.Poll = 20 * time.Millisecond
	cfg.VerifierAddress = serveVerifier(t, fleet)
	change(&cfg)
	common := service.DefaultConfig("notifier")
	common.StopTimeout = 5 * time.Second
	n, err := app.New(t.Context(), cfg, service.Deps{
		Config: common, Name: "notifier", Telemetry: tel, DB: db, Listener: listener, Now: time.Now,
		Bus: fleet.BusWith("notifier", tel), Readiness: lifecycle.NewReadiness(),
		TLS: fleet.TLS(tlsx.ServiceID(eventbustest.TrustDomain, "notifier")),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		db.Close()
	})
	t.Cleanup(stop)
	return running{addr: listener.Addr().String(), stop: stop}
}

func subscription(url string) app.SubscriptionConfig {
	return app.SubscriptionConfig{Name: "ops", URL: url, Secret: config.Secret{Value: secret}, AllowPrivateNetworks: true}
}

// verdicts is the history that the verifier of the tests has, latest change first.
type verdicts struct {
	verifierv1.UnimplementedVerdictServiceServer
	mu      sync.Mutex
	changes []*verifierv1.VerdictChange
}

var recorded verdicts

func (v *verdicts) GetVerdictHistory(context.Context, *verifierv1.GetVerdictHistoryRequest) (*verifierv1.GetVerdictHistoryResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return &verifierv1.GetVerdictHistoryResponse{Changes: v.changes}, nil
}

func (v *verdicts) add(c *verifierv1.VerdictChange) {
	v.mu.Lock()
	defer v.mu.Unlock()
	c.Verdict.Sequence = int64(len(v.changes) + 1)
	v.changes = append([]*verifierv1.VerdictChange{c}, v.changes...)
}

// serveVerifier runs a verifier that knows what was recorded.
func serveVerifier(t *testing.T, fleet *eventstest.Fleet) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rows := authz.Table{}
	for _, m := range verifierv1.VerdictService_ServiceDesc.Methods {
		rows["/"+verifierv1.VerdictService_ServiceDesc.ServiceName+"/"+m.MethodName] = authz.Rule{Services: []string{events.Notifier}}
	}
	for _, m := range verifierv1.VerdictService_ServiceDesc.Streams {
		rows["/"+verifierv1.VerdictService_ServiceDesc.ServiceName+"/"+m.StreamName] = authz.Rule{Services: []string{events.Notifier}}
	}
	s, err := grpcx.NewServer(grpcx.DefaultServerConfig(""), grpcx.ServerDeps{
		TLS: fleet.TLS(tlsx.ServiceID(eventbustest.TrustDomain, events.Verifier)), Authz: rows,
		Telemetry: obs.Discard("verifier"), Readiness: lifecycle.NewReadiness(), Listener: listener,
	})
	if err != nil {
		t.Fatal(err)
	}
	verifierv1.RegisterVerdictServiceServer(s, &recorded)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("verifier: %v", err)
		}
	})
	return listener.Addr().String()
}

func publish(t *testing.T, bus *eventbus.Bus) trace.TraceID {
	t.Helper()
	ctx, span := obs.Discard("verifier").Tracer().Start(t.Context(), "evaluate")
	defer span.End()
	image := &typev1.ImageRef{Registry: "registry.example", Repository: "team/app", Digest: digest}
	c := &verifierv1.VerdictChange{Verdict: &verifierv1.Verdict{
		Image: image, Digest: "sha256:" + strings.Repeat("b", 64), State: verifierv1.Verdict_STATE_FAIL,
		EvaluateTime: timestamppb.Now(), TraceId: span.SpanContext().TraceID().String(),
	}}
	recorded.add(c)
	err := events.Publish(ctx, bus, events.ID(c.GetVerdict().GetDigest(), strconv.FormatInt(c.GetVerdict().GetSequence(), 10)), &eventv1.VerdictReachedEvent{
		Image: image, VerdictDigest: c.GetVerdict().GetDigest(), State: eventv1.VerdictReachedEvent_STATE_FAIL, Reasons: []string{"r"},
		Sequence: c.GetVerdict().GetSequence(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return span.SpanContext().TraceID()
}

func TestNotifier_tellsOnceInOneTrace(t *testing.T) {
	fleet, sub := eventstest.Start(t), newSubscriber(t)
	verifier := fleet.Bus("verifier")
	start(t, fleet, sqldbtest.SQLite(t), func(c *app.Config) { c.Subscriptions = []app.SubscriptionConfig{subscription(sub.URL)} })
	id := publish(t, verifier)
	r := sub.next(t)
	var body struct {
		ID   string
		Data struct {
			State   string
			TraceID string `json:"trace_id"`
		}
	}
	if err := json.Unmarshal(r.body, &body); err != nil {
		t.Fatal(err)
	}
	if body.ID != r.id || body.Data.State != "FAIL" || body.Data.TraceID != id.String() || !strings.Contains(r.traceparent, id.String()) {
		t.Errorf("%s, traceparent %s, trace %s", r.body, r.traceparent, id)
	}
	sub.none(t, 100*time.Millisecond)
}

// The retry is made by another process than the first attempt, in the same trace.
func TestNotifier_retriesAcrossRestart(t *testing.T) {
	fleet, sub, database := eventstest.Start(t), newSubscriber(t), sqldbtest.SQLite(t)
	verifier := fleet.Bus("verifier")
	change := func(c *app.Config) {
		c.Subscriptions = []app.SubscriptionConfig{subscription(sub.URL)}
		c.Delivery.Schedule = []time.Duration{0, 300 * time.Millisecond, time.Hour}
	}
	sub.answer(http.StatusInternalServerError)
	first := start(t, fleet, database, change)
	id := publish(t, verifier)
	before := sub.next(t)
	first.stop()
	sub.answer(http.StatusOK)
	second := start(t, fleet, database, change)
	after := sub.next(t)
	if before.id != after.id || string(before.body) != string(after.body) || !strings.Contains(after.traceparent, id.String()) ||
		before.traceparent == after.traceparent {
		t.Errorf("before %+v, after %+v", before, after)
	}
	waitFor(t, fleet, second, func(d *notifierv1.Delivery) bool {
		return d.GetState() == notifierv1.Delivery_STATE_DELIVERED && d.GetAttempts() == 2
	})
}

func TestNotifier_deadLetterAndReplay(t *testing.T) {
	fleet, sub := eventstest.Start(t), newSubscriber(t)
	verifier, operator := fleet.Bus("verifier"), fleet.Bus(eventbus.Operator)
	sub.answer(http.StatusBadGateway)
	run := start(t, fleet, sqldbtest.SQLite(t), func(c *app.Config) {
		c.Subscriptions = []app.SubscriptionConfig{subscription(sub.URL)}
		c.Delivery.Schedule = []time.Duration{0, time.Millisecond}
	})
	publish(t, verifier)
	first := sub.next(t)
	sub.next(t)
	var letters []events.DeadLetter
	for deadline := time.Now().Add(20 * time.Second); len(letters) == 0; {
		var err error
		if letters, err = events.WaitingDeadLetters(t.Context(), operator, 1, 10); err != nil || time.Now().After(deadline) {
			t.Fatalf("no dead letter: %v", err)
		}
	}
	if e := letters[0].Event; e.GetReason() != "DELIVERY_ATTEMPTS_EXHAUSTED" || e.GetService() != "notifier" || e.GetImage().GetDigest() != digest {
		t.Errorf("%v", e)
	}
	sub.answer(http.StatusOK)
	if _, err := events.ReplayDeadLetter(t.Context(), operator, letters[0]); err != nil {
		t.Fatal(err)
	}
	if again := sub.next(t); again.id != first.id {
		t.Errorf("replayed as %s, want %s", again.id, first.id)
	}
	waitFor(t, fleet, run, func(d *notifierv1.Delivery) bool { return d.GetState() == notifierv1.Delivery_STATE_DELIVERED })
}

func TestNotifier_privateAddressIsNotReached(t *testing.T) {
	fleet, sub := eventstest.Start(t), newSubscriber(t)
	verifier := fleet.Bus("verifier")
	run := start(t, fleet, sqldbtest.SQLite(t), func(c *app.Config) {
		s := subscription(strings.Replace(sub.URL, "127.0.0.1", "localhost", 1))
		s.AllowPrivateNetworks = false
		c.Subscriptions = []app.SubscriptionConfig{s}
	})
	publish(t, verifier)
	waitFor(t, fleet, run, func(d *notifierv1.Delivery) bool {
		return d.GetAttempts() == 1 && strings.Contains(d.GetLastError(), "address not allowed")
	})
	sub.none(t, 0)
}

// waitFor polls the API until the one delivery there is satisfies ok.
func waitFor(t *testing.T, fleet *eventstest.Fleet, run running, ok func(*notifierv1.Delivery) bool) {
	t.Helper()
	conn, err := grpcx.Dial(run.addr, tlsx.ServiceID(eventbustest.TrustDomain, "notifier"), grpcx.ClientDeps{
		TLS: fleet.TLS(tlsx.OperatorID(eventbustest.TrustDomain, eventstest.OperatorName)), Telemetry: obs.Discard("test"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := notifierv1.NewDeliveryServiceClient(conn)
	var last *notifierv1.ListDeliveriesResponse
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if last, err = client.ListDeliveries(t.Context(), &notifierv1.ListDeliveriesRequest{}); err != nil {
			t.Fatal(err)
		}
		if len(last.GetDeliveries()) == 1 && ok(last.GetDeliveries()[0]) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("deliveries: %v", last)
}

func TestValidate(t *testing.T) {
	valid := func() app.Config {
		c := app.Default()
		c.TLS = tlsx.Config{CAFile: "ca", CertFile: "crt", KeyFile: "key"}
		s := subscription("https://hooks.example/x?token=hidden")
		s.AllowPrivateNetworks = false
		c.Subscriptions = []app.SubscriptionConfig{s}
		return c
	}
	c := valid()
	if p := service.Check(app.Definition, &c); p.Err() != nil || len(p.Warnings()) > 0 {
		t.Fatalf("%v, warnings %v", p.Err(), p.Warnings())
	}
	sub := func(f func(*app.SubscriptionConfig)) func(*app.Config) {
		return func(c *app.Config) { f(&c.Subscriptions[0]) }
	}
	for name, tt := range map[string]struct {
		change func(*app.Config)
		want   string
	}{
		"name":         {sub(func(s *app.SubscriptionConfig) { s.Name = "A b" }), "subscriptions[0].name"},
		"same name":    {func(c *app.Config) { c.Subscriptions = append(c.Subscriptions, c.Subscriptions[0]) }, "subscriptions[1].name"},
		"no URL":       {sub(func(s *app.SubscriptionConfig) { s.URL = "" }), "subscriptions[0].url"},
		"scheme":       {sub(func(s *app.SubscriptionConfig) { s.URL = "file:///etc/passwd" }), "subscriptions[0].url"},
		"user":         {sub(func(s *app.SubscriptionConfig) { s.URL = "https://u:p@hooks.example" }), "subscriptions[0].url"},
		"loopback":     {sub(func(s *app.SubscriptionConfig) { s.URL = "https://127.0.0.1/x" }), "allow_private_networks"},
		"metadata":     {sub(func(s *app.SubscriptionConfig) { s.URL, s.AllowPrivateNetworks = "http://169.254.169.254/x", true }), "subscriptions[0].url"},
		"unsigned":     {sub(func(s *app.SubscriptionConfig) { s.Secret = config.Secret{} }), "never sent unsigned"},
		"short secret": {sub(func(s *app.SubscriptionConfig) { s.Secret.Value = "whsec_YWJj" }), "subscriptions[0].secret"},
		"bad key":      {sub(func(s *app.SubscriptionConfig) { s.Ed25519Key.Value = "whpk_YWJj" }), "subscriptions[0].ed25519_key"},
		"glob":         {sub(func(s *app.SubscriptionConfig) { s.Repositories = []string{"a/["} }), "subscriptions[0].repositories[0]"},
		"state":        {sub(func(s *app.SubscriptionConfig) { s.States = []string{"fail"} }), "subscriptions[0].states[0]"},
		"no schedule":  {func(c *app.Config) { c.Delivery.Schedule = nil }, "delivery.schedule"},
		"negative":     {func(c *app.Config) { c.Delivery.Schedule = []time.Duration{-1} }, "delivery.schedule[0]"},
		"lease":        {func(c *app.Config) { c.Delivery.Lease = 20 * time.Second }, "delivery.lease"},
		"timeout":      {func(c *app.Config) { c.Delivery.Timeout = 0 }, "delivery.timeout"},
		"workers":      {func(c *app.Config) { c.Delivery.Workers = 0 }, "delivery.workers"},
		"share":        {func(c *app.Config) { c.Delivery.PerSubscription = 0 }, "delivery.per_subscription"},
		"poll":         {func(c *app.Config) { c.Delivery.Poll = 0 }, "delivery.poll"},
		"retention":    {func(c *app.Config) { c.Delivery.Retention = 0 }, "delivery.retention"},
		"orphan age":   {func(c *app.Config) { c.Delivery.OrphanAge = -1 }, "delivery.orphan_age"},
	} {
		t.Run(name, func(t *testing.T) {
			c := valid()
			tt.change(&c)
			err := service.Check(app.Definition, &c).Err()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one about %s", err, tt.want)
			}
			if strings.Contains(err.Error(), "hidden") {
				t.Error("the error shows the token")
			}
		})
	}
}

func TestLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "notifier.yaml")
	text := `
delivery:
  schedule: [0s, 5s, 5m]
subscriptions:
  - name: ops
    url: https://hooks.example/seaworthy
    secret: {env: OPS_SECRET}
    ed25519_key: {file: /run/secrets/ops.whsk}
    repositories: ["registry.example/team/**"]
    states: [FAIL, UNKNOWN]
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := service.Load(app.Definition, file, []string{"SEAWORTHY_NOTIFIER_DELIVERY_WORKERS=3"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Delivery.Schedule) != 3 || c.Delivery.Schedule[2] != 5*time.Minute || c.Delivery.Workers != 3 ||
		c.Delivery.Timeout != 15*time.Second || c.Subscriptions[0].Secret.Env != "OPS_SECRET" {
		t.Errorf("%+v", c.Delivery)
	}
}

// An event that the verifier knows nothing of reaches no subscriber, whoever sent it.
func TestNotifier_forgedVerdict(t *testing.T) {
	fleet, sub := eventstest.Start(t), newSubscriber(t)
	verifier, operator := fleet.Bus("verifier"), fleet.Bus(eventbus.Operator)
	start(t, fleet, sqldbtest.SQLite(t), func(c *app.Config) { c.Subscriptions = []app.SubscriptionConfig{subscription(sub.URL)} })
	err := events.Publish(t.Context(), verifier, "forged", &eventv1.VerdictReachedEvent{
		Image:         &typev1.ImageRef{Registry: "registry.example", Repository: "team/forged", Digest: digest},
		VerdictDigest: "sha256:" + strings.Repeat("c", 64), State: eventv1.VerdictReachedEvent_STATE_PASS,
		PreviousState: eventv1.VerdictReachedEvent_STATE_FAIL, Sequence: 1 << 40,
	})
	if err != nil {
		t.Fatal(err)
	}
	var letters []events.DeadLetter
	for deadline := time.Now().Add(20 * time.Second); len(letters) == 0; {
		if letters, err = events.WaitingDeadLetters(t.Context(), operator, 1, 10); err != nil || time.Now().After(deadline) {
			t.Fatalf("no dead letter: %v", err)
		}
	}
	if r := letters[0].Event.GetReason(); r != "VERDICT_NOT_CONFIRMED" {
		t.Errorf("reason %s", r)
	}
	sub.none(t, 100*time.Millisecond)
}
