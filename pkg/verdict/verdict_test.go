package verdict_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/authz"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	"github.com/seaworthy-dev/seaworthy/pkg/verdict"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a verifier whose answers a test sets.
type fake struct {
	verifierv1.UnimplementedVerdictServiceServer
	calls   atomic.Int64
	largest atomic.Int64
	changes chan string
	cut     chan struct{}

	mu     sync.Mutex
	answer func(*typev1.ImageRef) *verifierv1.Verdict
	err    error
	// environment of the last question.
	environment string
}

func (f *fake) set(answer func(*typev1.ImageRef) *verifierv1.Verdict, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer, f.err = answer, err
}

func (f *fake) BatchGetVerdicts(_ context.Context, req *verifierv1.BatchGetVerdictsRequest) (*verifierv1.BatchGetVerdictsResponse, error) {
	f.calls.Add(1)
	f.largest.Store(max(f.largest.Load(), int64(len(req.GetImages()))))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.environment = req.GetEnvironment()
	if f.err != nil {
		return nil, f.err
	}
	r := &verifierv1.BatchGetVerdictsResponse{}
	for _, i := range req.GetImages() {
		r.Verdicts = append(r.Verdicts, f.answer(i))
	}
	return r, nil
}

func (f *fake) WatchVerdicts(_ *verifierv1.WatchVerdictsRequest, s grpc.ServerStreamingServer[verifierv1.WatchVerdictsResponse]) error {
	if err := s.Send(&verifierv1.WatchVerdictsResponse{}); err != nil {
		return err
	}
	for {
		select {
		case d := <-f.changes:
			if err := s.Send(&verifierv1.WatchVerdictsResponse{Verdict: &verifierv1.Verdict{Image: &typev1.ImageRef{Digest: d}}}); err != nil {
				return err
			}
		case <-f.cut:
			return apierr.New(codes.Unavailable, "STOPPING", "the server stops")
		case <-s.Context().Done():
			return nil
		}
	}
}

func always(state verifierv1.Verdict_State) func(*typev1.ImageRef) *verifierv1.Verdict {
	return func(i *typev1.ImageRef) *verifierv1.Verdict {
		return &verifierv1.Verdict{Image: i, State: state, Digest: "sha256:v", Sequence: 1, Reasons: []*verifierv1.Reason{{Code: "C", Message: "m"}}}
	}
}

// start serves f as the verifier and returns a client whose cache runs.
func start(tb testing.TB, f *fake, change func(*verdict.Config)) *verdict.Client {
	tb.Helper()
	dir := tb.TempDir()
	ca, err := tlsx.LoadOrCreateCA(dir)
	if err != nil {
		tb.Fatal(err)
	}
	source := func(name, id string) *tlsx.Source {
		cfg, err := ca.Issue(dir, name, id, time.Hour)
		if err != nil {
			tb.Fatal(err)
		}
		s, err := tlsx.NewSource(cfg)
		if err != nil {
			tb.Fatal(err)
		}
		return s
	}
	table := authz.Table{}
	for _, m := range verifierv1.VerdictService_ServiceDesc.Methods {
		table["/"+verifierv1.VerdictService_ServiceDesc.ServiceName+"/"+m.MethodName] = authz.Rule{Clients: true}
	}
	table[verifierv1.VerdictService_WatchVerdicts_FullMethodName] = authz.Rule{Clients: true}
	srv, err := grpcx.NewServer(grpcx.DefaultServerConfig("127.0.0.1:0"), grpcx.ServerDeps{
		TLS: source("verifier", tlsx.ServiceID("seaworthy.local", "verifier")), Authz: table,
		Telemetry: obs.Discard("verifier"), Readiness: lifecycle.NewReadiness(),
	})
	if err != nil {
		tb.Fatal(err)
	}
	f.changes, f.cut = make(chan string), make(chan struct{})
	verifierv1.RegisterVerdictServiceServer(srv, f)
	cfg := verdict.Config{Address: srv.Addr(), TLS: source("client", tlsx.ClientID("seaworthy.local", "gate")), Telemetry: obs.Discard("gate")}
	if change != nil {
		change(&cfg)
	}
	c, err := verdict.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Run(ctx) })
	wg.Go(func() { _ = c.Run(ctx) })
	tb.Cleanup(func() { cancel(); _ = c.Close(); wg.Wait() })
	return c
}

func image(n int) imageref.Ref {
	return imageref.Ref{Registry: "r.example", Repository: "app", Digest: fmt.Sprintf("sha256:%064x", n)}
}

// settle asks until the answer is kept.
func settle(tb testing.TB, f *fake, c *verdict.Client, i imageref.Ref) {
	tb.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		before := f.calls.Load()
		if _, err := c.Get(tb.Context(), i); err == nil && f.calls.Load() == before {
			return
		}
	}
	tb.Fatal("the answer is not kept")
}

func TestCacheFollowsChanges(t *testing.T) {
	t.Parallel()
	f := &fake{answer: always(verifierv1.Verdict_STATE_PASS)}
	c := start(t, f, nil)
	settle(t, f, c, image(1))
	f.set(always(verifierv1.Verdict_STATE_FAIL), nil)
	if v, err := c.Get(t.Context(), image(1)); err != nil || v.State != verdict.Pass || v.Digest != "sha256:v" || v.Reasons[0] != "C: m" {
		t.Errorf("kept: %+v, %v", v, err)
	}
	f.changes <- image(1).Digest
	for end := time.Now().Add(10 * time.Second); ; {
		v, err := c.Get(t.Context(), image(1))
		if err == nil && v.State == verdict.Fail {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after the change: %+v, %v", v, err)
		}
	}
	// A broken watch voids what is kept, and with the verifier down all is Unknown.
	settle(t, f, c, image(1))
	f.set(nil, apierr.New(codes.Internal, "INTERNAL", "broken"))
	f.cut <- struct{}{}
	for end := time.Now().Add(10 * time.Second); ; {
		v, err := c.Get(t.Context(), image(1))
		if err != nil && v.State == verdict.Unknown && v.State.String() == "UNKNOWN" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after the watch broke: %+v, %v", v, err)
		}
	}
}

func TestWhatIsNotKept(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	f := &fake{answer: always(verifierv1.Verdict_STATE_PASS)}
	c := start(t, f, func(cfg *verdict.Config) {
		cfg.MaxEntries = 2
		cfg.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	settle(t, f, c, image(0))
	asks := func(i imageref.Ref) bool {
		t.Helper()
		for range 2 {
			before := f.calls.Load()
			if _, err := c.Get(t.Context(), i); err != nil {
				t.Fatal(err)
			}
			if f.calls.Load() == before {
				return false
			}
		}
		return true
	}
	byTag := image(1)
	byTag.Digest, byTag.Tag = "", "v1"
	if !asks(byTag) {
		t.Error("an answer by tag was kept")
	}
	f.set(func(i *typev1.ImageRef) *verifierv1.Verdict {
		return &verifierv1.Verdict{Image: i, State: verifierv1.Verdict_STATE_UNKNOWN, Pending: true}
	}, nil)
	if !asks(image(2)) {
		t.Error("a pending answer was kept")
	}
	end := time.Now().Add(20 * time.Second)
	f.set(func(i *typev1.ImageRef) *verifierv1.Verdict {
		v := always(verifierv1.Verdict_STATE_PASS)(i)
		v.ExpireTime = timestamppb.New(end)
		return v
	}, nil)
	if asks(image(3)) {
		t.Error("an answer was not kept")
	}
	ahead.Store(int64(21 * time.Second))
	if !asks(image(3)) {
		t.Error("a verdict was used past its end")
	}
	ahead.Store(0)
	kept := 0
	for n := range 5 {
		before := f.calls.Load()
		if _, err := c.Get(t.Context(), image(n)); err != nil {
			t.Fatal(err)
		}
		if f.calls.Load() == before {
			kept++
		}
	}
	if kept > 2 {
		t.Errorf("%d entries in a cache of 2", kept)
	}
	ahead.Store(int64(time.Minute))
	if !asks(image(4)) {
		t.Error("an answer was used while the watch was silent")
	}
}

// TestKeptForAMinute: the evidence of an image becomes overdue at a time that was not known
// when the answer was given, and nobody can store that. The watch goes on.
func TestKeptForAMinute(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	f := &fake{answer: always(verifierv1.Verdict_STATE_PASS)}
	c := start(t, f, func(cfg *verdict.Config) {
		cfg.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	settle(t, f, c, image(1))
	f.set(always(verifierv1.Verdict_STATE_UNKNOWN), nil)
	forward := func(d time.Duration) {
		t.Helper()
		ahead.Store(int64(d))
		f.changes <- image(2).Digest
		settle(t, f, c, image(3)) // the watch has told of the other image
	}
	forward(30 * time.Second)
	if v, err := c.Get(t.Context(), image(1)); err != nil || v.State != verdict.Pass {
		t.Errorf("half a minute later: %+v, %v", v, err)
	}
	forward(time.Minute)
	if v, err := c.Get(t.Context(), image(1)); err != nil || v.State != verdict.Unknown {
		t.Errorf("a minute later: %+v, %v", v, err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	f := &fake{answer: always(verifierv1.Verdict_STATE_PASS)}
	c := start(t, f, func(cfg *verdict.Config) { cfg.Environment = "staging" })
	if _, err := c.Get(t.Context(), image(1)); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.environment != "staging" {
		t.Errorf("asked for the environment %q", f.environment)
	}
}

func TestBatch(t *testing.T) {
	t.Parallel()
	f := &fake{answer: func(i *typev1.ImageRef) *verifierv1.Verdict {
		v := always(verifierv1.Verdict_STATE_FAIL)(i)
		v.Digest = i.GetDigest()
		return v
	}}
	c := start(t, f, nil)
	settle(t, f, c, image(7))
	var images []imageref.Ref
	for n := range 1200 {
		images = append(images, image(n))
	}
	all, err := c.Batch(t.Context(), images)
	if err != nil || len(all) != len(images) || f.largest.Load() > verdict.MaxBatch {
		t.Fatalf("%d answers, at most %d at once, %v", len(all), f.largest.Load(), err)
	}
	for i, v := range all {
		if v.Digest != images[i].Digest || v.State != verdict.Fail {
			t.Fatalf("answer %d: %+v", i, v)
		}
	}
	f.set(nil, apierr.New(codes.Internal, "INTERNAL", "broken"))
	if _, err := c.Batch(t.Context(), append(images, image(5000))); err == nil {
		t.Error("a batch without all of its answers")
	}
	if _, err := verdict.New(verdict.Config{}); err == nil || !strings.Contains(err.Error(), "TLS") || errors.Is(err, context.Canceled) {
		t.Errorf("without TLS: %v", err)
	}
}

// BenchmarkGet is a hit of the cache, which is to take less than a microsecond.
func BenchmarkGet(b *testing.B) {
	f := &fake{answer: always(verifierv1.Verdict_STATE_PASS)}
	c := start(b, f, nil)
	settle(b, f, c, image(1))
	ctx, i := b.Context(), image(1)
	b.ReportAllocs()
	for b.Loop() {
		if v, err := c.Get(ctx, i); err != nil || v.State != verdict.Pass {
			b.Fatal(v, err)
		}
	}
}
