package command_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"google.golang.org/grpc/codes"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/natsd"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// nats starts a server with the fleet's users and streams and returns a bus per
// service.
func (f *testFleet) nats() map[string]*eventbus.Bus {
	f.t.Helper()
	server, err := natsd.Start(natsd.Config{
		StoreDir: filepath.Join(f.t.TempDir(), "store"), TLS: f.source("nats", tlsx.ServiceID(domain, "nats")),
		Users: events.Users(domain, "admin"),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(server.Shutdown)
	f.context.NATS = server.URL()
	f.save()
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	buses := map[string]*eventbus.Bus{}
	var g errgroup.Group
	for _, service := range append(events.Topology.Services(), eventbus.Provisioner) {
		bus, err := events.Connect(ctx, eventbus.Config{URL: server.URL()}, service, f.source(service, tlsx.ServiceID(domain, service)), obs.Discard(service))
		if err != nil {
			f.t.Fatal(err)
		}
		f.t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_ = bus.Close(ctx)
		})
		buses[service] = bus
		g.Go(func() error { return bus.Ensure(ctx) })
	}
	if err := g.Wait(); err != nil {
		f.t.Fatal(err)
	}
	return buses
}

// fakeLetters answers with the letters of the stream, one a page.
type fakeLetters struct {
	verifierv1.UnimplementedDeadLetterServiceServer
	fleet *testFleet
}

func (l fakeLetters) letter(ctx context.Context, from int64) (*verifierv1.DeadLetter, error) {
	all, err := events.WaitingDeadLetters(ctx, l.fleet.operator, uint64(from), 1)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &verifierv1.DeadLetter{Sequence: int64(all[0].Sequence), Event: all[0].Event, Traceparent: all[0].Traceparent}, nil
}

func (l fakeLetters) ListDeadLetters(ctx context.Context, req *verifierv1.ListDeadLettersRequest) (*verifierv1.ListDeadLettersResponse, error) {
	from := req.GetFromSequence()
	if req.GetPageToken() != "" {
		var err error
		if from, err = strconv.ParseInt(req.GetPageToken(), 10, 64); err != nil {
			return nil, err
		}
	}
	resp := &verifierv1.ListDeadLettersResponse{}
	found, err := l.letter(ctx, from)
	if err != nil || found == nil {
		return resp, err
	}
	resp.NextPageToken = strconv.FormatInt(found.GetSequence()+1, 10)
	if e := found.GetEvent(); (req.GetService() == "" || req.GetService() == e.GetService()) && (req.GetReason() == "" || req.GetReason() == e.GetReason()) {
		resp.DeadLetters = append(resp.DeadLetters, found)
	}
	return resp, nil
}

func (l fakeLetters) GetDeadLetter(ctx context.Context, req *verifierv1.GetDeadLetterRequest) (*verifierv1.GetDeadLetterResponse, error) {
	found, err := l.letter(ctx, req.GetSequence())
	if err == nil && found.GetSequence() != req.GetSequence() {
		err = apierr.New(codes.NotFound, "DEAD_LETTER_NOT_FOUND", "there is none")
	}
	return &verifierv1.GetDeadLetterResponse{DeadLetter: found}, err
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	buses := f.nats()
	operator, err := events.Connect(t.Context(), eventbus.Config{URL: f.context.NATS}, eventbus.Operator,
		f.source("reader", tlsx.OperatorID(domain, "admin")), obs.Discard("operator"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = operator.Close(context.Background()) })
	f.operator = operator
	if r := f.run("deadletter", "list"); r.code != 0 || !strings.Contains(r.err, "no dead letters") {
		t.Errorf("an empty list: %+v", r)
	}
	if r := f.run("deadletter", "show", "1"); r.code != 5 {
		t.Errorf("a letter that is not there: %+v, want exit code 5", r)
	}

	// The scanner gives up on two pushes, each with another reason.
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan string, 10)
	done := make(chan error, 1)
	go func() {
		done <- events.Consume(ctx, buses["scanner"], "scanner-scan", 1, func(_ context.Context, e *eventv1.ImagePushedEvent, d *eventbus.Delivery) error {
			seen <- d.ID
			reason := "IMAGE_NOT_FOUND"
			if e.GetImage().GetTag() == "second" {
				reason = "LAYER_CORRUPT"
			}
			return eventbus.Permanent(reason, errors.New("the registry said: no\x1b[2J"))
		})
	}()
	defer func() { cancel(); <-done }()
	for _, tag := range []string{"first", "second"} {
		img := ledger()
		img.Tag = tag
		if err := events.Publish(t.Context(), buses["gateway"], "push-"+tag, &eventv1.ImagePushedEvent{Image: img}); err != nil {
			t.Fatal(err)
		}
	}
	letters := func(args ...string) (seqs []uint64) {
		t.Helper()
		r := f.run(append([]string{"deadletter", "list", "-o", "json"}, args...)...)
		var got struct {
			DeadLetters []struct {
				Sequence uint64
				Event    struct{ Service, Reason string }
			}
		}
		if err := json.Unmarshal([]byte(r.out), &got); err != nil || r.code != 0 {
			t.Fatalf("%v in %+v", err, r)
		}
		for _, l := range got.DeadLetters {
			seqs = append(seqs, l.Sequence)
		}
		return seqs
	}
	await := func(n int) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); len(letters()) < n; {
			if time.Now().After(end) {
				t.Fatalf("%d dead letters, want %d", len(letters()), n)
			}
		}
	}
	await(2)
	if got := letters("--reason", "LAYER_CORRUPT"); len(got) != 1 || got[0] != 2 {
		t.Errorf("letters with a reason = %v, want 2", got)
	}
	if got := letters("--service", "signer"); len(got) != 0 {
		t.Errorf("letters of the signer = %v", got)
	}
	if got := letters("--limit", "1"); len(got) != 1 || got[0] != 1 {
		t.Errorf("one letter = %v", got)
	}
	if got := letters("--waiting", "--reason", "LAYER_CORRUPT"); len(got) != 1 || got[0] != 2 {
		t.Errorf("letters in the stream = %v, want 2", got)
	}
	if got := letters("--from", "2"); len(got) != 1 || got[0] != 2 {
		t.Errorf("letters from 2 on = %v", got)
	}
	r := f.run("deadletter", "list")
	if !strings.Contains(r.out, "scanner-scan") || !strings.Contains(r.out, "registry.test:5000/shop/ledger:first") || strings.Contains(r.out, "\x1b") {
		t.Errorf("list = %+v", r)
	}
	r = f.run("deadletter", "show", "2")
	if r.code != 0 || !strings.Contains(r.out, "LAYER_CORRUPT") || !strings.Contains(r.out, digestA) || strings.Contains(r.out, "\x1b") {
		t.Errorf("show = %+v", r)
	}

	for len(seen) > 0 {
		<-seen
	}
	r = f.run("deadletter", "replay", "1", "99")
	if r.code != 5 || !strings.Contains(r.out, "push-first-replay-1") {
		t.Errorf("replay of one that is there and one that is not: %+v", r)
	}
	if got := <-seen; got != "push-first-replay-1" {
		t.Errorf("the scanner got %s", got)
	}
	await(3)
	r = f.run("deadletter", "replay", "--all", "--reason", "LAYER_CORRUPT", "-o", "json")
	if r.code != 0 || !strings.Contains(r.out, "push-second-replay-2") || strings.Contains(r.out, "push-first") {
		t.Errorf("replay --all --reason: %+v", r)
	}
	if got := <-seen; got != "push-second-replay-2" {
		t.Errorf("the scanner got %s", got)
	}
	await(4)
}

func TestDeadLetters_onlyOperators(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.context.NATS = "nats://127.0.0.1:1"
	f.as(tlsx.ClientID(domain, "ci"))
	if r := f.run("deadletter", "list", "--waiting"); r.code != 7 || !strings.Contains(r.err, "operator's certificate") {
		t.Errorf("as a client: %+v, want exit code 7", r)
	}
	f.as(tlsx.OperatorID(domain, "admin"))
	if r := f.run("deadletter", "list", "--waiting", "--timeout", "300ms"); r.code != 6 {
		t.Errorf("with NATS down: %+v, want exit code 6", r)
	}
}
