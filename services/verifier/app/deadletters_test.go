package app_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// More letters than the stream holds come while the verifier is away: nothing else
// stops, and when it is back all letters are stored, the stream is empty, and each image
// is UNKNOWN. A replay works after that.
func TestDeadLettersAreStored(t *testing.T) {
	const failing = 120
	// Not parallel: no other test uses the topology meanwhile.
	i := slices.IndexFunc(events.Topology.Streams, func(s eventbus.Stream) bool { return s.Name == events.StreamDeadLetter })
	size := &events.Topology.Streams[i].MaxBytes
	t.Cleanup(func(before int64) func() { return func() { *size = before } }(*size))
	*size = 32 << 10
	f := newFleet(t)
	good := make(chan string, 10)
	f.background(func(ctx context.Context) error {
		return events.Consume(ctx, f.bus[events.Scanner], events.ConsumerScannerScan, 2, func(_ context.Context, e *eventv1.ImagePushedEvent, d *eventbus.Delivery) error {
			if e.GetImage().GetRepository() == "team/good" {
				good <- d.ID
				return nil
			}
			return eventbus.Permanent("LAYER_CORRUPT", errors.New("a text with \x00 in it"))
		})
	})
	image := func(i int) *typev1.ImageRef {
		return &typev1.ImageRef{Registry: "r.example", Repository: "team/bad", Digest: fmt.Sprintf("sha256:%064x", i)}
	}
	push := func(id string, i *typev1.ImageRef) {
		t.Helper()
		if err := events.Publish(t.Context(), f.bus[events.Gateway], id, &eventv1.ImagePushedEvent{Image: i}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range failing {
		push(fmt.Sprint("bad-", i), image(i))
	}
	operator := f.operator()
	waiting := func() int {
		t.Helper()
		list, err := events.WaitingDeadLetters(t.Context(), operator, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	within := func(what string, met func() bool) { t.Helper(); f.within(time.Minute, what, met) }
	within("the stream is full", func() bool { n := waiting(); return n > 10 && n < failing })
	push("good", &typev1.ImageRef{Registry: "r.example", Repository: "team/good", Digest: image(1).GetDigest()})
	if id := <-good; id != "good" {
		t.Errorf("handled %s", id)
	}
	if n := waiting(); n == failing {
		t.Fatal("the stream was not full")
	}

	v := f.start()
	letters := verifierv1.NewDeadLetterServiceClient(f.dial(v, f.nats.TLS(tlsx.OperatorID(trustDomain, "test"))))
	var all []*verifierv1.DeadLetter
	within("all letters are stored", func() bool {
		all = nil
		req := &verifierv1.ListDeadLettersRequest{PageSize: 50}
		for {
			resp, err := letters.ListDeadLetters(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, resp.GetDeadLetters()...)
			if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
				return len(all) == failing
			}
		}
	})
	within("the stream is empty", func() bool { return waiting() == 0 })
	seen := map[string]bool{}
	for _, l := range all {
		seen[l.GetEvent().GetImage().GetDigest()] = true
	}
	if len(seen) != failing {
		t.Errorf("letters of %d images, want %d", len(seen), failing)
	}
	for _, i := range []int{0, failing - 1} {
		within("UNKNOWN", func() bool {
			resp, err := v.verdicts.GetVerdict(t.Context(), &verifierv1.GetVerdictRequest{Image: image(i)})
			return err == nil && resp.GetVerdict().GetState() == verifierv1.Verdict_STATE_UNKNOWN &&
				resp.GetVerdict().GetReasons()[0].GetCode() == "PIPELINE_FAILED"
		})
	}

	one, err := letters.GetDeadLetter(t.Context(), &verifierv1.GetDeadLetterRequest{Sequence: all[0].GetSequence()})
	if err != nil {
		t.Fatal(err)
	}
	id, err := events.ReplayDeadLetter(t.Context(), operator, events.DeadLetter{
		Sequence: uint64(one.GetDeadLetter().GetSequence()), Event: one.GetDeadLetter().GetEvent(), Traceparent: one.GetDeadLetter().GetTraceparent(),
	})
	if err != nil || id == "" {
		t.Errorf("replay: %q, %v", id, err)
	}
	within("the replay failed as well", func() bool {
		resp, err := letters.ListDeadLetters(t.Context(), &verifierv1.ListDeadLettersRequest{FromSequence: all[failing-1].GetSequence() + 1, Service: events.Scanner, Reason: "LAYER_CORRUPT"})
		return err == nil && len(resp.GetDeadLetters()) == 1
	})
	if _, err := letters.GetDeadLetter(t.Context(), &verifierv1.GetDeadLetterRequest{Sequence: 1 << 40}); status.Code(err) != codes.NotFound {
		t.Errorf("a letter that is not there: %v", err)
	}
}
