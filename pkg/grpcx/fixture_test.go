package grpcx_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seaworthy-dev/seaworthy/pkg/authz"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/testkit/output"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

const (
	domain = "seaworthy.local"
	echo   = "/seaworthy.test.v1.EchoService/Echo"
	count  = "/seaworthy.test.v1.EchoService/Count"
)

var (
	serverID = tlsx.ServiceID(domain, "scanner")
	callerID = tlsx.ServiceID(domain, "signer")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echoer is a service with a unary RPC and a server stream, both of which do
// what the test wants.
type echoer struct {
	unary  func(context.Context, *wrapperspb.StringValue) (*wrapperspb.StringValue, error)
	stream func(*wrapperspb.StringValue, grpc.ServerStream) error
}

var echoDesc = grpc.ServiceDesc{
	ServiceName: "seaworthy.test.v1.EchoService",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Echo",
		Handler: func(srv any, ctx context.Context, dec func(any) error, in grpc.UnaryServerInterceptor) (any, error) {
			req := new(wrapperspb.StringValue)
			if err := dec(req); err != nil {
				return nil, err
			}
			return in(ctx, req, &grpc.UnaryServerInfo{Server: srv, FullMethod: echo}, func(ctx context.Context, req any) (any, error) {
				return srv.(*echoer).unary(ctx, req.(*wrapperspb.StringValue))
			})
		},
	}},
	Streams: []grpc.StreamDesc{{
		StreamName: "Count", ServerStreams: true,
		Handler: func(srv any, ss grpc.ServerStream) error {
			req := new(wrapperspb.StringValue)
			if err := ss.RecvMsg(req); err != nil {
				return err
			}
			return srv.(*echoer).stream(req, ss)
		},
	}},
}

// logBuffer is a log that a test may read while the server writes.
type logBuffer struct{ output.Buffer }

func (l *logBuffer) lines(containing string) []string {
	var out []string
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, containing) {
			out = append(out, line)
		}
	}
	return out
}

// fixture is a server that runs, with the CA its callers need.
type fixture struct {
	ca        *tlsx.CA
	serverTLS tlsx.Config
	cfg       grpcx.ServerConfig
	table     authz.Table
	service   *echoer
	readiness *lifecycle.Readiness
	logs      *logBuffer
	server    *grpcx.Server
	stop      func() error
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	ca, err := tlsx.LoadOrCreateCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{
		ca:    ca,
		cfg:   grpcx.DefaultServerConfig("127.0.0.1:0"),
		table: authz.Table{echo: {Services: []string{"signer"}}, count: {Services: []string{"signer"}}},
		service: &echoer{
			unary: func(_ context.Context, v *wrapperspb.StringValue) (*wrapperspb.StringValue, error) { return v, nil },
			stream: func(v *wrapperspb.StringValue, ss grpc.ServerStream) error {
				for range len(v.GetValue()) {
					if err := ss.SendMsg(v); err != nil {
						return err
					}
				}
				return nil
			},
		},
		readiness: lifecycle.NewReadiness(),
		logs:      &logBuffer{},
	}
	f.serverTLS = f.issue(t, ca, serverID)
	return f
}

func (f *fixture) issue(t *testing.T, ca *tlsx.CA, id string) tlsx.Config {
	t.Helper()
	cfg, err := ca.Issue(t.TempDir(), "it", id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func (f *fixture) source(t *testing.T, ca *tlsx.CA, id string) *tlsx.Source {
	t.Helper()
	s, err := tlsx.NewSource(f.issue(t, ca, id))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// telemetry is that of tests, with the log kept.
func (f *fixture) telemetry() *obs.Telemetry {
	tel := *obs.Discard("test")
	tel.Logger = slog.New(slog.NewTextHandler(f.logs, nil))
	return &tel
}

func (f *fixture) start(t *testing.T) *fixture {
	t.Helper()
	source, err := tlsx.NewSource(f.serverTLS)
	if err != nil {
		t.Fatal(err)
	}
	f.server, err = grpcx.NewServer(f.cfg, grpcx.ServerDeps{TLS: source, Authz: f.table, Telemetry: f.telemetry(), Readiness: f.readiness})
	if err != nil {
		t.Fatal(err)
	}
	f.server.RegisterService(&echoDesc, f.service)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.server.Run(ctx) }()
	f.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := f.stop(); err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	return f
}

func (f *fixture) dial(t *testing.T, source *tlsx.Source, peerID string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpcx.Dial(f.server.Addr(), peerID, grpcx.ClientDeps{TLS: source, Telemetry: obs.Discard("caller")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// caller connects as the signer, which the table lets in.
func (f *fixture) caller(t *testing.T) *grpc.ClientConn {
	t.Helper()
	return f.dial(t, f.source(t, f.ca, callerID), serverID)
}

func call(ctx context.Context, conn *grpc.ClientConn, v string) (string, error) {
	reply := new(wrapperspb.StringValue)
	err := conn.Invoke(ctx, echo, wrapperspb.String(v), reply)
	return reply.GetValue(), err
}

func openStream(ctx context.Context, conn *grpc.ClientConn, v string) (grpc.ClientStream, error) {
	cs, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, count)
	if err != nil {
		return nil, err
	}
	return cs, errors.Join(cs.SendMsg(wrapperspb.String(v)), cs.CloseSend())
}

// listener is one that a server takes over, if it comes about.
func listener(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}
