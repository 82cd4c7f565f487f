package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/fleet"
	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	"github.com/seaworthy-dev/seaworthy/tests/internal/allinone"
	"github.com/seaworthy-dev/seaworthy/tests/internal/images"
	"github.com/seaworthy-dev/seaworthy/tests/internal/procs"
)

// TestE2E_SeriesOfStrangers sends names that somebody made up to every listener of a
// fleet: none becomes a label, and more of them make no more series.
func TestE2E_SeriesOfStrangers(t *testing.T) {
	a := allinone.Start(t, func(c *fleet.Config) {
		c.Telemetry.LogLevel = "info"
		c.Scanner.NATS.MaxDeliver, c.Scanner.NATS.Backoff = 2, []time.Duration{50 * time.Millisecond}
	})
	s := newStranger(t, a)
	for round := range 2 {
		s.round(t, round)
	}
	before := series(t, a)
	const more = 4
	for round := range more {
		s.round(t, 2+round)
	}
	after := series(t, a)
	var added []string
	for line := range after {
		if strings.Contains(line, "hostile") {
			t.Errorf("a stranger's name is a label: %s", line)
		}
		if !before[line] {
			added = append(added, line)
		}
	}
	// Outcomes that are rare make series late; each takes up to twenty, with its buckets.
	if len(added) > 30 {
		t.Errorf("%d rounds added %d series: %v", more, len(added), added)
	}
	if len(after) < 500 || len(after) > 3000 {
		t.Errorf("%d series", len(after))
	}
	t.Logf("%d series, %d of them from the last %d rounds", len(after), len(added), more)
}

// stranger has every right that is needed to be heard.
type stranger struct {
	a         *allinone.AllInOne
	operator  *tlsx.Source
	bus       *nats.Conn
	transport *http.Transport
	refused   atomic.Int64 // messages that became dead letters
}

func newStranger(t *testing.T, a *allinone.AllInOne) *stranger {
	t.Helper()
	certs := filepath.Join(a.DataDir(), "certs")
	s := &stranger{a: a, transport: http.DefaultTransport.(*http.Transport).Clone()}
	var err error
	if s.operator, err = tlsx.NewSource(tlsx.Config{
		CAFile: filepath.Join(certs, "ca.crt"), CertFile: filepath.Join(certs, "operator.crt"), KeyFile: filepath.Join(certs, "operator.key"),
	}); err != nil {
		t.Fatal(err)
	}
	server := tlsx.ServiceID(a.Context().TrustDomain, eventbus.Server)
	if s.bus, err = nats.Connect(a.Context().NATS, nats.Secure(s.operator.Client(server)),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})); err != nil { // subjects that are not permitted
		t.Fatal(err)
	}
	t.Cleanup(func() { s.bus.Close(); s.transport.CloseIdleConnections() })
	if _, err := a.NATS.Subscribe(events.DeadLetterSubject("*"), func(*nats.Msg) { s.refused.Add(1) }); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stranger) round(t *testing.T, n int) {
	t.Helper()
	mark := fmt.Sprintf("hostile-%d", n)
	s.requests(t, mark)
	s.calls(t, mark)
	refused := s.refused.Load()
	s.messages(t, mark)
	digest := images.Push(t, images.Clean(t, mark), s.a.Registry()+"/e2e/"+mark+":"+mark)
	s.a.Verdict(t, digest)
	for end := time.Now().Add(time.Minute); s.refused.Load() < refused+2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the messages were not refused in time")
		}
	}
}

// requests go to the gateway, the registry and the admin servers.
func (s *stranger) requests(t *testing.T, mark string) {
	t.Helper()
	bases := []string{s.a.GatewayURL(), "http://" + s.a.Registry()}
	for _, m := range adminAddress.FindAllStringSubmatch(s.a.Logs.String(), -1) {
		bases = append(bases, "http://"+m[1])
	}
	for _, base := range bases {
		for _, host := range []string{"", mark + ".test", mark} {
			for _, method := range []string{http.MethodGet, http.MethodPost, strings.ToUpper(mark)} {
				for _, path := range []string{"/", "/" + mark, "/metrics/" + mark, "/readyz?" + mark, "/webhooks/v1/distribution/" + mark, "/v2/" + mark + "/manifests/" + mark} {
					req, err := http.NewRequestWithContext(t.Context(), method, base+path, bytes.NewReader(nil))
					if err != nil {
						t.Fatal(err)
					}
					if host != "" {
						req.Host = host
					}
					for _, name := range []string{"User-Agent", "Traceparent", "Tracestate", "Baggage", "X-Forwarded-For", "Forwarded", "Origin", "Content-Type"} {
						req.Header.Set(name, mark)
					}
					resp, err := s.transport.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
				}
			}
		}
	}
}

// calls go to the gRPC servers, with methods that they have and with others.
func (s *stranger) calls(t *testing.T, mark string) {
	t.Helper()
	addresses := s.a.Context().Addresses
	hostile := &typev1.ImageRef{Registry: mark + ".test", Repository: mark, Tag: mark}
	for service, address := range map[string]string{
		"scanner": addresses.Scanner, "signer": addresses.Signer, "verifier": addresses.Verifier, "notifier": addresses.Notifier,
	} {
		conn, err := grpc.NewClient(address, grpc.WithAuthority(mark), grpc.WithUserAgent(mark),
			grpc.WithTransportCredentials(credentials.NewTLS(s.operator.Client(tlsx.ServiceID(s.a.Context().TrustDomain, service)))))
		if err != nil {
			t.Fatal(err)
		}
		ctx := metadata.AppendToOutgoingContext(t.Context(), mark, mark, "traceparent", mark, "baggage", mark+"=1", "grpc-client-"+mark, mark)
		for method, request := range map[string]proto.Message{
			"/" + mark + "/Echo": &emptypb.Empty{},
			"/seaworthy." + service + ".v1." + mark + "/" + mark:   &emptypb.Empty{},
			"/seaworthy." + service + ".v1.VerdictService/" + mark: &emptypb.Empty{},
			scannerv1.ScannerService_ScanImage_FullMethodName:      &scannerv1.ScanImageRequest{Image: hostile},
			verifierv1.VerdictService_GetVerdict_FullMethodName:    &verifierv1.GetVerdictRequest{Image: hostile},
		} {
			_ = conn.Invoke(ctx, method, request, &emptypb.Empty{}) // most must fail
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// messages are published: one that nobody can read, one about an image of a registry that
// nobody knows, and some on subjects that do not exist.
func (s *stranger) messages(t *testing.T, mark string) {
	t.Helper()
	pushed, err := proto.Marshal(&eventv1.ImagePushedEvent{
		Meta:  &eventv1.EventMeta{EventId: mark, Source: mark},
		Image: &typev1.ImageRef{Registry: mark + ".test", Repository: mark, Tag: mark, Digest: fmt.Sprintf("sha256:%064x", len(mark))},
	})
	if err != nil {
		t.Fatal(err)
	}
	for subject, data := range map[string][]byte{
		events.SubjectImagePushed: pushed, events.SubjectImagePushed + " ": []byte(mark),
		"seaworthy.evt." + mark + ".v1": pushed, events.DeadLetterSubject(mark): pushed, mark: nil,
	} {
		m := nats.NewMsg(strings.TrimSpace(subject))
		m.Data = data
		for _, name := range []string{"ce-id", "ce-type", "ce-source", "ce-subject", "ce-time", "traceparent", "baggage", mark} {
			m.Header.Set(name, mark)
		}
		m.Header.Set("Nats-Msg-Id", mark+subject)
		if err := s.bus.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.bus.FlushWithContext(ctx); err != nil {
		t.Fatal(err)
	}
}

// series are the names and labels of all time series of the fleet.
func series(t *testing.T, a *allinone.AllInOne) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for line := range strings.Lines(scrape(t, a, "/metrics")) {
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' || strings.HasPrefix(line, "go_") || strings.HasPrefix(line, "200 OK") {
			continue
		}
		all[line[:at]] = true
	}
	return all
}

var adminAddress = regexp.MustCompile(`admin server listening.*address=(\S+)`)

// scrape reads what the five admin servers answer. The fleet must log at info.
func scrape(t *testing.T, a *allinone.AllInOne, paths ...string) string {
	t.Helper()
	var all strings.Builder
	servers := adminAddress.FindAllStringSubmatch(a.Logs.String(), -1)
	if len(servers) != len(procs.Services) {
		t.Fatalf("%d admin servers", len(servers))
	}
	for _, m := range servers {
		for _, path := range paths {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m[1]+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			all.WriteString(get(t, req))
		}
	}
	return all.String()
}
