package grpcx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sort"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc/filters"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/seaworthy-dev/seaworthy/pkg/authz"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// streamGrace is how long streams may finish by themselves after the stop began;
// then their context ends, because a stream that waits for changes never would.
const streamGrace = time.Second

// errStopping is the cause of the end of a stream's context at a stop.
var errStopping = errors.New("server is stopping")

// ServerDeps is what a server is made with; only Listener may be nil.
type ServerDeps struct {
	TLS       *tlsx.Source
	Authz     authz.Table
	Telemetry *obs.Telemetry
	Readiness *lifecycle.Readiness
	// Quiet are full names of unary methods that are measured, and traced only if the
	// caller's trace is recorded.
	Quiet []string
	// Listener replaces ServerConfig.Listen, for tests and the all-in-one.
	Listener net.Listener
}

// Server is a gRPC server. Register services, then call Run once.
type Server struct {
	cfg      ServerConfig
	table    authz.Table
	log      *slog.Logger
	grpc     *grpc.Server
	health   *healthServer
	listener net.Listener

	stopping chan struct{}
	stop     func() // closes stopping, once
}

var _ grpc.ServiceRegistrar = (*Server)(nil)

// NewServer builds a server and opens its listener. It fails if a dependency is
// missing, above all TLS: there is no server without it.
func NewServer(cfg ServerConfig, d ServerDeps) (*Server, error) {
	switch {
	case d.TLS == nil:
		return nil, errors.New("a gRPC server needs TLS")
	case d.Authz == nil:
		return nil, errors.New("a gRPC server needs an authorization table")
	case d.Telemetry == nil:
		return nil, errors.New("a gRPC server needs telemetry")
	case d.Readiness == nil:
		return nil, errors.New("a gRPC server needs readiness")
	}
	if d.Listener != nil {
		cfg.Listen = d.Listener.Addr().String()
	}
	var p config.Problems
	cfg.Validate(&p)
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	listener := d.Listener
	if listener == nil {
		var err error
		if listener, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", cfg.Listen); err != nil {
			return nil, fmt.Errorf("gRPC server: %w", err)
		}
	}
	s := &Server{cfg: cfg, table: d.Authz, log: d.Telemetry.Logger, health: newHealthServer(d.Readiness), listener: listener}
	s.stopping = make(chan struct{})
	s.stop = sync.OnceFunc(func() { close(s.stopping) })
	options, err := s.options(d)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("gRPC server: %w", err), listener.Close())
	}
	s.grpc = grpc.NewServer(options...)
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health)
	if cfg.Reflection {
		reflection.Register(s.grpc)
	}
	return s, nil
}

func (s *Server) options(d ServerDeps) ([]grpc.ServerOption, error) {
	in := &interceptors{
		table:       d.Authz,
		trustDomain: d.TLS.TrustDomain(),
		maxDeadline: s.cfg.MaxDeadline,
		log:         s.log,
		stopping:    s.stopping,
	}
	calls, err := quiet(otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(d.Telemetry.TracerProvider),
		otelgrpc.WithMeterProvider(d.Telemetry.MeterProvider),
		otelgrpc.WithPropagators(d.Telemetry.Propagator),
		otelgrpc.WithFilter(filters.Not(filters.HealthCheck())),
	), d.Quiet, d.Telemetry)
	if err != nil {
		return nil, err
	}
	size := int(s.cfg.MaxMessage)
	return []grpc.ServerOption{
		grpc.Creds(credentials.NewTLS(d.TLS.Server("h2"))),
		grpc.StatsHandler(calls),
		grpc.ForceServerCodecV2(NewCodec()),
		// From the outside in: what an inner one returns, a panic included, the
		// report masks and logs once.
		grpc.ChainUnaryInterceptor(in.reportUnary, in.recoverUnary, in.authorizeUnary, in.deadlineUnary),
		grpc.ChainStreamInterceptor(in.reportStream, in.recoverStream, in.authorizeStream, in.stopStream),
		grpc.MaxRecvMsgSize(size),
		grpc.MaxSendMsgSize(size),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(maxConcurrentStreams),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time:    30 * time.Second,
			Timeout: 10 * time.Second,
			// A connection is authenticated once; its age bounds how long a
			// certificate is trusted after its end, and spreads the load anew.
			MaxConnectionAge:      time.Hour,
			MaxConnectionAgeGrace: 5 * time.Minute,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             10 * time.Second,
			PermitWithoutStream: true,
		}),
	}, nil
}

// RegisterService adds a service; generated Register functions call it.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.grpc.RegisterService(desc, impl)
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Run serves until ctx ends, then stops: new calls are refused, unary calls may
// finish within ServerConfig.StopTimeout, streams within a second. It fails at
// once if the registered RPCs and the authorization table do not agree. It may
// be called once.
func (s *Server) Run(ctx context.Context) error {
	defer s.stop()
	if err := s.table.Covers(s.methods()); err != nil {
		_ = s.listener.Close() // never served
		return err
	}
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(s.listener) }()
	s.log.InfoContext(ctx, "gRPC server listening", "address", s.Addr())
	select {
	case err := <-served:
		return fmt.Errorf("gRPC server: %w", err)
	case <-ctx.Done():
	}
	s.gracefulStop()
	if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("gRPC server: %w", err)
	}
	return nil
}

func (s *Server) gracefulStop() {
	s.health.stop()
	streams := time.AfterFunc(min(streamGrace, s.cfg.StopTimeout), s.stop)
	defer streams.Stop()
	hard := time.AfterFunc(s.cfg.StopTimeout, func() {
		s.log.Warn("gRPC calls cut off at stop", "timeout", s.cfg.StopTimeout)
		s.grpc.Stop()
	})
	defer hard.Stop()
	s.grpc.GracefulStop()
}

func (s *Server) methods() []string {
	var out []string
	for service, info := range s.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			out = append(out, "/"+service+"/"+m.Name)
		}
	}
	sort.Strings(out)
	return out
}
