package e2e

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/fleet"
	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	"github.com/seaworthy-dev/seaworthy/tests/internal/allinone"
	"github.com/seaworthy-dev/seaworthy/tests/internal/images"
	"github.com/seaworthy-dev/seaworthy/tests/internal/subscriber"
)

// Whoever took over a service holds its certificate and publishes whatever the service
// may. On a running fleet that turns no FAIL into PASS, moves no tag, and has no
// subscriber told what the verifier did not decide.
func TestE2E_TakenOverServicesForgeNothing(t *testing.T) {
	told := subscriber.Start(t)
	var certs string
	a := allinone.Start(t, func(c *fleet.Config) {
		c.Subscribe("tests", "http://"+told.Addr()+"/", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
		certs = filepath.Join(c.DataDir, "certs")
	})
	const repository = "e2e/takeover"
	at := a.Registry() + "/" + repository
	bad := images.Push(t, images.Vulnerable(t, "bad"), at+":latest")
	good := images.Push(t, images.Clean(t, "good"), at+":good")
	wantState(t, a.Verdict(t, bad), verifierv1.Verdict_STATE_FAIL)
	wantState(t, a.Verdict(t, good), verifierv1.Verdict_STATE_PASS)

	image := func(tag, digest string) *typev1.ImageRef {
		return &typev1.ImageRef{Registry: a.Registry(), Repository: repository, Tag: tag, Digest: digest}
	}
	future := func() *eventv1.EventMeta {
		return &eventv1.EventMeta{EventTime: timestamppb.New(time.Now().Add(365 * 24 * time.Hour))}
	}
	scanned := func(digest string) *eventv1.ImageScannedEvent {
		return &eventv1.ImageScannedEvent{
			Meta: future(), Image: image("latest", digest), ScanId: "scan-forged", ScanTime: timestamppb.Now(),
			Platforms: []*eventv1.ImageScannedEvent_PlatformScan{{Digest: digest, ReportDigest: good, ContentDigest: good}},
		}
	}
	pushes := []proto.Message{
		&eventv1.ImagePushedEvent{Meta: future(), Image: image("latest", good)},
		&eventv1.ImagePushedEvent{Meta: future(), Image: image("latest", bad)},
		&eventv1.ImageReferrerEvent{Meta: future(), Image: image("", bad), ReferrerDigest: good},
		&eventv1.ImageDeletedEvent{Meta: future(), Image: image("", good)},
	}
	forged := map[string][]proto.Message{
		events.Gateway: pushes,
		events.Scanner: append([]proto.Message{scanned(bad), scanned(good)}, pushes...),
		events.Signer: {&eventv1.ImageAttestedEvent{
			Meta: future(), Image: image("latest", bad), ScanId: "scan-forged", ScanTime: timestamppb.Now(),
			Platforms: []*eventv1.ImageAttestedEvent_PlatformEvidence{{Digest: bad}},
		}},
		events.Verifier: {&eventv1.VerdictReachedEvent{
			Meta: future(), Image: image("latest", bad), VerdictDigest: good, Sequence: 1,
			State: eventv1.VerdictReachedEvent_STATE_PASS, PreviousState: eventv1.VerdictReachedEvent_STATE_FAIL,
		}},
		events.Notifier: {&eventv1.AuditRecordedEvent{Meta: future(), Actor: "forged", Action: "forged", Resource: bad}},
	}
	all := append([]proto.Message{}, pushes...)
	for _, list := range forged {
		all = append(all, list...)
	}
	for service, list := range forged {
		own := map[proto.Message]bool{}
		for _, e := range list {
			own[e] = true
		}
		bus := connectAs(t, a, certs, service)
		for i, e := range all {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			err := events.Publish(ctx, bus, events.ID("forged", service, string(rune('a'+i))), proto.CloneOf(e))
			cancel()
			if own[e] && err != nil {
				t.Errorf("%s cannot publish %T, so nothing was tried: %v", service, e, err)
			}
		}
	}

	// What is pushed later went the same ways, so what was forged was looked at.
	last := images.Push(t, images.Clean(t, "last"), at+":last")
	wantState(t, a.Verdict(t, last), verifierv1.Verdict_STATE_PASS)
	time.Sleep(5 * time.Second) // an absence cannot be waited for
	for _, i := range []*typev1.ImageRef{image("latest", ""), image("", bad)} {
		answer, err := a.Verifier.GetVerdict(t.Context(), &verifierv1.GetVerdictRequest{Image: i})
		if err != nil {
			t.Fatal(err)
		}
		v := answer.GetVerdict()
		if v.GetState() == verifierv1.Verdict_STATE_PASS || v.GetImage().GetDigest() != bad {
			t.Errorf("the verdict of %s is %s, of %s", i, v.GetState(), v.GetImage().GetDigest())
		}
	}
	if v := a.Verdict(t, good); v.GetState() != verifierv1.Verdict_STATE_PASS {
		t.Errorf("the clean image is %s: %v", v.GetState(), v.GetReasons())
	}
	for _, n := range told.Received(bad) {
		if n.Data.State == "PASS" {
			t.Errorf("a subscriber was told PASS of the bad image: %+v", n)
		}
	}
	if len(told.Received(bad)) == 0 {
		t.Error("the subscriber was told nothing, so the test says nothing")
	}
}

// connectAs connects to the event bus with the certificate of a service.
func connectAs(t *testing.T, a *allinone.AllInOne, certs, service string) *eventbus.Bus {
	t.Helper()
	source, err := tlsx.NewSource(tlsx.Config{
		CAFile: filepath.Join(certs, "ca.crt"), CertFile: filepath.Join(certs, service+".crt"), KeyFile: filepath.Join(certs, service+".key"),
	})
	if err != nil {
		t.Fatal(err)
	}
	bus, err := events.Connect(t.Context(), eventbus.Config{URL: a.Context().NATS, PublishTimeout: 10 * time.Second}, service, source, obs.Discard(service))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := bus.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return bus
}

// The embedded registry answers to its address and its configured names, and to no page of
// another site.
func TestE2E_RegistryKnowsItsNames(t *testing.T) {
	a := allinone.Start(t, func(c *fleet.Config) { c.Registry.Names = []string{"registry.fleet.test"} })
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	for _, c := range []struct {
		host, origin string
		want         int
	}{
		{"", "", http.StatusOK},
		{"localhost", "", http.StatusOK},
		{"registry.fleet.test:5000", "", http.StatusOK},
		{"REGISTRY.fleet.test.", "", http.StatusOK},
		{"registry.fleet.test", "http://registry.fleet.test", http.StatusOK},
		{"rebound.example", "", http.StatusMisdirectedRequest},
		{"registry.fleet.test.example", "", http.StatusMisdirectedRequest},
		{"registry.fleet.test", "http://evil.example", http.StatusForbidden},
		{"", "http://evil.example", http.StatusForbidden},
		{"", "null", http.StatusForbidden},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.Registry()+"/v2/_catalog", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = c.host
		if c.origin != "" {
			req.Header.Set("Origin", c.origin)
		}
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("Host %q, Origin %q: %d, want %d", c.host, c.origin, resp.StatusCode, c.want)
		}
	}
}
