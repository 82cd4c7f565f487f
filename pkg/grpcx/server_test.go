package grpcx_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/authz"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

func wantCode(t *testing.T, err error, want codes.Code) *apierr.Error {
	t.Helper()
	var e *apierr.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v (%T) is no *apierr.Error", err, err)
	}
	if e.Code() != want {
		t.Fatalf("code = %s (%v), want %s", e.Code(), err, want)
	}
	return e
}

func TestServer_callAndPeer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var peer atomic.Value
	f.service.unary = func(ctx context.Context, v *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
		peer.Store(grpcx.PeerID(ctx) + " " + fmt.Sprint(len(obs.TraceID(ctx))))
		return v, nil
	}
	conn := f.start(t).caller(t)
	got, err := call(t.Context(), conn, "hello")
	if err != nil || got != "hello" {
		t.Fatalf("call = %q, %v", got, err)
	}
	if peer.Load() != callerID+" 32" {
		t.Errorf("peer and length of the trace id in the handler = %v", peer.Load())
	}
	cs, err := openStream(t.Context(), conn, "abc")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		if err = cs.RecvMsg(new(wrapperspb.StringValue)); err != nil {
			break
		}
		n++
	}
	if n != 3 || !errors.Is(err, io.EOF) {
		t.Errorf("stream gave %d messages, then %v; want 3, then EOF", n, err)
	}
}

func TestServer_whoMayCall(t *testing.T) {
	t.Parallel()
	f := newFixture(t).start(t)
	other, err := tlsx.LoadOrCreateCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		source *tlsx.Source
		peerID string
		code   codes.Code
		text   string
	}{
		{"other CA", f.source(t, other, callerID), serverID, codes.Unavailable, "unknown authority"},
		{"wrong peer id", f.source(t, f.ca, callerID), tlsx.ServiceID(domain, "verifier"), codes.Unavailable, "the server is " + serverID},
		{"not in the row", f.source(t, f.ca, tlsx.ServiceID(domain, "notifier")), serverID, codes.PermissionDenied, "may not call"},
		{"client where services may", f.source(t, f.ca, tlsx.ClientID(domain, "signer")), serverID, codes.PermissionDenied, "may not call"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			conn := f.dial(t, tc.source, tc.peerID)
			_, err := call(t.Context(), conn, "x")
			if e := wantCode(t, err, tc.code); !strings.Contains(e.Error(), tc.text) {
				t.Errorf("error %v, want %q in it", e, tc.text)
			}
			cs, err := openStream(t.Context(), conn, "x")
			if err == nil {
				err = cs.RecvMsg(new(wrapperspb.StringValue))
			}
			wantCode(t, err, tc.code)
		})
	}
}

func TestServer_refusesWeakTransport(t *testing.T) {
	t.Parallel()
	f := newFixture(t).start(t)
	good := f.source(t, f.ca, callerID).Client(serverID)
	old := good.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	anonymous := good.Clone()
	anonymous.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	for name, cfg := range map[string]*tls.Config{"TLS 1.2": old, "no client certificate": anonymous} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := grpc.NewClient(f.server.Addr(), grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			if _, err := call(t.Context(), conn, "x"); apierr.From(err).Code() != codes.Unavailable {
				t.Errorf("call = %v, want UNAVAILABLE", err)
			}
		})
	}
}

func TestServer_tableMustAgree(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		table authz.Table
		want  string
	}{
		"missing row": {authz.Table{echo: {}}, "no row for " + count},
		"extra row":   {authz.Table{echo: {}, count: {}, "/x.Y/Z": {}}, "/x.Y/Z, which is not registered"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			s, err := grpcx.NewServer(f.cfg, grpcx.ServerDeps{
				TLS: f.source(t, f.ca, serverID), Authz: tc.table, Telemetry: f.telemetry(), Readiness: f.readiness,
			})
			if err != nil {
				t.Fatal(err)
			}
			s.RegisterService(&echoDesc, f.service)
			if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Run() = %v, want %q", err, tc.want)
			}
			var dialer net.Dialer
			if conn, err := dialer.DialContext(t.Context(), "tcp", s.Addr()); err == nil {
				_ = conn.Close()
				t.Error("the port is still open")
			}
		})
	}
}

func TestNewServer_needsEverything(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	full := grpcx.ServerDeps{TLS: f.source(t, f.ca, serverID), Authz: f.table, Telemetry: f.telemetry(), Readiness: f.readiness, Listener: listener(t)}
	for want, change := range map[string]func(*grpcx.ServerDeps, *grpcx.ServerConfig){
		"TLS":           func(d *grpcx.ServerDeps, _ *grpcx.ServerConfig) { d.TLS = nil },
		"authorization": func(d *grpcx.ServerDeps, _ *grpcx.ServerConfig) { d.Authz = nil },
		"telemetry":     func(d *grpcx.ServerDeps, _ *grpcx.ServerConfig) { d.Telemetry = nil },
		"readiness":     func(d *grpcx.ServerDeps, _ *grpcx.ServerConfig) { d.Readiness = nil },
		"max_message":   func(_ *grpcx.ServerDeps, c *grpcx.ServerConfig) { c.MaxMessage = 1 },
		"max_deadline":  func(_ *grpcx.ServerDeps, c *grpcx.ServerConfig) { c.MaxDeadline = 0 },
		"stop_timeout":  func(_ *grpcx.ServerDeps, c *grpcx.ServerConfig) { c.StopTimeout = 0 },
		"host:port": func(d *grpcx.ServerDeps, c *grpcx.ServerConfig) {
			d.Listener, c.Listen = nil, "nonsense"
		},
	} {
		d, c := full, f.cfg
		change(&d, &c)
		if _, err := grpcx.NewServer(c, d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewServer() = %v, want an error about %s", err, want)
		}
	}
}

func TestServer_masksAndLogsOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.service.unary = func(_ context.Context, v *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
		switch v.GetValue() {
		case "panic":
			panic("secret of the panic")
		case "unknown":
			return nil, fmt.Errorf("open: %w", errors.New("secret of the disk"))
		default:
			return nil, apierr.New(codes.NotFound, "SCAN_NOT_FOUND", "no such scan").WithCause(errors.New("secret row"))
		}
	}
	f.service.stream = func(*wrapperspb.StringValue, grpc.ServerStream) error { panic("secret of the stream") }
	conn := f.start(t).caller(t)
	for _, tc := range []struct {
		in, logged string
		code       codes.Code
	}{
		{"panic", "secret of the panic", codes.Internal},
		{"unknown", "secret of the disk", codes.Internal},
		{"known", "SCAN_NOT_FOUND", codes.NotFound},
	} {
		_, err := call(t.Context(), conn, tc.in)
		e := wantCode(t, err, tc.code)
		if strings.Contains(e.Error()+e.Message(), "secret") {
			t.Errorf("%s: the caller sees %v", tc.in, e)
		}
		if n := len(f.logs.lines(tc.logged)); n != 1 {
			t.Errorf("%s: logged %d times, want once", tc.in, n)
		}
	}
	cs, err := openStream(t.Context(), conn, "x")
	if err != nil {
		t.Fatal(err)
	}
	if e := wantCode(t, cs.RecvMsg(new(wrapperspb.StringValue)), codes.Internal); strings.Contains(e.Error(), "secret") {
		t.Errorf("stream: the caller sees %v", e)
	}
	if n := len(f.logs.lines("secret of the stream")); n != 1 {
		t.Errorf("stream: logged %d times, want once", n)
	}
	if _, err := call(t.Context(), conn, "known"); err == nil || !apierr.HasReason(err, "SCAN_NOT_FOUND") {
		t.Errorf("after the panics: %v, want the server to go on", err)
	}
}

func TestServer_messageLimit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.cfg.MaxMessage = 4 << 10
	f.service.unary = func(_ context.Context, v *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
		if v.GetValue() == "big" {
			return wrapperspb.String(strings.Repeat("x", 5<<10)), nil
		}
		return v, nil
	}
	conn := f.start(t).caller(t)
	if _, err := call(t.Context(), conn, strings.Repeat("x", 4000)); err != nil {
		t.Fatalf("under the limit: %v", err)
	}
	_, err := call(t.Context(), conn, strings.Repeat("x", 5<<10))
	wantCode(t, err, codes.ResourceExhausted)
	_, err = call(t.Context(), conn, "big")
	wantCode(t, err, codes.ResourceExhausted)
}

func TestServer_deadlines(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.cfg.MaxDeadline = 2 * time.Second
	left := make(chan time.Duration, 1)
	f.service.unary = func(ctx context.Context, v *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
		deadline, _ := ctx.Deadline()
		left <- time.Until(deadline)
		if v.GetValue() == "wait" {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return v, nil
	}
	conn := f.start(t).caller(t)
	if _, err := call(t.Context(), conn, "x"); err != nil {
		t.Fatal(err)
	}
	if got := <-left; got > 2*time.Second {
		t.Errorf("without a deadline the handler had %v, want the server's 2s", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := call(ctx, conn, "wait")
	wantCode(t, err, codes.DeadlineExceeded)
	if ctx.Err() != nil {
		t.Error("the call spent the caller's whole deadline")
	}
	if got := <-left; got > 900*time.Millisecond {
		t.Errorf("the handler had %v of the caller's 1s", got)
	}
	spent, cancelSpent := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancelSpent()
	_, err = call(spent, conn, "x")
	wantCode(t, err, codes.DeadlineExceeded)
}

func TestServer_health(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.readiness.Set("database", errors.New("not yet"))
	client := healthv1.NewHealthClient(f.start(t).dial(t, f.source(t, f.ca, tlsx.ClientID(domain, "anybody")), serverID))
	check := func() healthv1.HealthCheckResponse_ServingStatus {
		t.Helper()
		resp, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetStatus()
	}
	if got := check(); got != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health = %v before ready", got)
	}
	watch, err := client.Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	next := func(want healthv1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		resp, err := watch.Recv()
		if err != nil || resp.GetStatus() != want {
			t.Fatalf("watch = %v, %v; want %v", resp.GetStatus(), err, want)
		}
	}
	next(healthv1.HealthCheckResponse_NOT_SERVING)
	f.readiness.Set("database", nil)
	if got := check(); got != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("health = %v when ready", got)
	}
	next(healthv1.HealthCheckResponse_SERVING)
	_, err = client.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "other"})
	wantCode(t, err, codes.NotFound)
	list, err := client.List(t.Context(), &healthv1.HealthListRequest{})
	if err != nil || list.GetStatuses()[""].GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("List() = %v, %v", list, err)
	}
	go func() { _ = f.stop() }()
	next(healthv1.HealthCheckResponse_NOT_SERVING)
}

func TestServer_reflectionBehindFlag(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{false, true} {
		f := newFixture(t)
		f.cfg.Reflection = on
		conn := f.start(t).caller(t)
		cs, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
			"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
		if err == nil {
			_ = cs.CloseSend()
			err = cs.RecvMsg(new(wrapperspb.StringValue))
		}
		if on {
			if !errors.Is(err, io.EOF) {
				t.Errorf("reflection on: %v, want the stream to end", err)
			}
			continue
		}
		wantCode(t, err, codes.Unimplemented)
	}
}

func TestServer_gracefulStop(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	entered, release := make(chan struct{}), make(chan struct{})
	f.service.unary = func(_ context.Context, v *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
		close(entered)
		<-release
		return v, nil
	}
	f.service.stream = func(v *wrapperspb.StringValue, ss grpc.ServerStream) error {
		if err := ss.SendMsg(v); err != nil {
			return err
		}
		<-ss.Context().Done()
		return ss.Context().Err()
	}
	conn := f.start(t).caller(t)
	cs, err := openStream(t.Context(), conn, "watch")
	if err != nil {
		t.Fatal(err)
	}
	if err := cs.RecvMsg(new(wrapperspb.StringValue)); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() { _, err := call(t.Context(), conn, "slow"); result <- err }()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- f.stop() }()
	e := wantCode(t, cs.RecvMsg(new(wrapperspb.StringValue)), codes.Unavailable)
	if e.Reason() != grpcx.ReasonStopping {
		t.Errorf("the stream ended with %v, want %s", e, grpcx.ReasonStopping)
	}
	close(release)
	if err := <-result; err != nil {
		t.Errorf("the call at work ended with %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run() = %v", err)
	}
}

func TestServer_stopTimeout(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.cfg.StopTimeout = 200 * time.Millisecond
	entered := make(chan struct{})
	f.service.unary = func(ctx context.Context, _ *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
		close(entered)
		<-ctx.Done() // ends when the connection is cut
		return nil, ctx.Err()
	}
	conn := f.start(t).caller(t)
	result := make(chan error, 1)
	go func() { _, err := call(t.Context(), conn, "hang"); result <- err }()
	<-entered
	if err := f.stop(); err != nil {
		t.Errorf("Run() = %v", err)
	}
	if err := <-result; err == nil {
		t.Error("the hanging call succeeded")
	}
}

func TestServer_rotationUnderLoad(t *testing.T) {
	t.Parallel()
	f := newFixture(t).start(t)
	renewed := f.issue(t, f.ca, serverID)
	probe := f.source(t, f.ca, callerID)
	before := presented(t, f, probe)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var (
		calls   atomic.Int64
		rotated atomic.Bool
		wg      sync.WaitGroup
	)
	for range 4 {
		source := f.source(t, f.ca, callerID)
		wg.Go(func() {
			// A connection per call, so that handshakes go on during the change.
			for !rotated.Load() {
				conn, err := grpcx.Dial(f.server.Addr(), serverID, grpcx.ClientDeps{TLS: source, Telemetry: obs.Discard("caller")})
				if err != nil {
					t.Error(err)
					return
				}
				_, err = call(ctx, conn, "x")
				_ = conn.Close()
				if err != nil {
					t.Errorf("call during the rotation: %v", err)
					return
				}
				calls.Add(1)
			}
		})
	}
	for _, files := range [][2]string{{renewed.CertFile, f.serverTLS.CertFile}, {renewed.KeyFile, f.serverTLS.KeyFile}} {
		if err := os.Rename(files[0], files[1]); err != nil {
			t.Fatal(err)
		}
	}
	for presented(t, f, probe) == before && ctx.Err() == nil {
	}
	rotated.Store(true)
	wg.Wait()
	if ctx.Err() != nil {
		t.Fatal("the new certificate was never presented")
	}
	if calls.Load() == 0 {
		t.Error("no call was made during the rotation")
	}
}

// presented returns the serial number of the certificate that the server shows.
func presented(t *testing.T, f *fixture, source *tlsx.Source) string {
	t.Helper()
	dialer := tls.Dialer{Config: source.Client(serverID)}
	conn, err := dialer.DialContext(t.Context(), "tcp", f.server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func TestDial_refuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	source := f.source(t, f.ca, callerID)
	for name, tc := range map[string]struct {
		peer string
		deps grpcx.ClientDeps
	}{
		"no TLS":       {serverID, grpcx.ClientDeps{Telemetry: f.telemetry()}},
		"no telemetry": {serverID, grpcx.ClientDeps{TLS: source}},
		"no peer":      {"", grpcx.ClientDeps{TLS: source, Telemetry: f.telemetry()}},
	} {
		if _, err := grpcx.Dial("localhost:1", tc.peer, tc.deps); err == nil {
			t.Errorf("%s: Dial() accepted it", name)
		}
	}
}

func ExampleDial() {
	dir, err := os.MkdirTemp("", "grpcx")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	source := func(id string) *tlsx.Source {
		ca, err := tlsx.LoadOrCreateCA(dir)
		if err != nil {
			panic(err)
		}
		files, err := ca.Issue(dir, "it", id, time.Hour)
		if err != nil {
			panic(err)
		}
		s, err := tlsx.NewSource(files)
		if err != nil {
			panic(err)
		}
		return s
	}
	telemetry := obs.Discard("example")
	server, err := grpcx.NewServer(grpcx.DefaultServerConfig("127.0.0.1:0"), grpcx.ServerDeps{
		TLS: source("spiffe://seaworthy.local/service/scanner"), Authz: authz.Table{},
		Telemetry: telemetry, Readiness: lifecycle.NewReadiness(),
	})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- server.Run(ctx) }()

	conn, err := grpcx.Dial(server.Addr(), "spiffe://seaworthy.local/service/scanner", grpcx.ClientDeps{
		TLS: source("spiffe://seaworthy.local/client/ci"), Telemetry: telemetry,
	})
	if err != nil {
		panic(err)
	}
	health, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
	fmt.Println(health.GetStatus(), err)
	_ = conn.Close()
	stop()
	fmt.Println(<-done)
	// Output:
	// SERVING <nil>
	// <nil>
}
