package grpcx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// answerMargin is the part of the caller's deadline that is kept back, at most,
// so that there is time left to answer the caller when the call below runs out.
const answerMargin = 100 * time.Millisecond

// retryPolicy repeats calls that a server refused or never saw. gRPC does not
// repeat a stream that has already given something back.
const retryPolicy = `{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":4,` +
	`"initialBackoff":"0.1s","maxBackoff":"2s","backoffMultiplier":3,"retryableStatusCodes":["UNAVAILABLE"]}}],` +
	`"retryThrottling":{"maxTokens":20,"tokenRatio":0.5}}`

// ClientDeps is what a client is made with. TLS and Telemetry are mandatory.
type ClientDeps struct {
	TLS       *tlsx.Source
	Telemetry *obs.Telemetry
	// MaxMessage bounds each message; 0 means DefaultMaxMessage.
	MaxMessage config.Bytes
	// Options are added last, for example a dialer of a test.
	Options []grpc.DialOption
}

// Dial prepares a connection to target (host:port or a gRPC target) that talks
// only to the peer with exactly the SPIFFE ID peerID. It does not connect yet:
// a service that is down makes the calls fail with UNAVAILABLE, after a few
// tries, not Dial.
//
// A unary call without a deadline gets DefaultCallTimeout; with one it ends a
// little before it. Every error of a call is an *apierr.Error.
func Dial(target, peerID string, d ClientDeps) (*grpc.ClientConn, error) {
	if d.TLS == nil {
		return nil, errors.New("a gRPC client needs TLS")
	}
	if d.Telemetry == nil {
		return nil, errors.New("a gRPC client needs telemetry")
	}
	if _, err := tlsx.ParseID(peerID); err != nil {
		return nil, fmt.Errorf("peer of %s: %w", target, err)
	}
	size := d.MaxMessage
	if size == 0 {
		size = DefaultMaxMessage
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(d.TLS.Client(peerID))),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler(
			otelgrpc.WithTracerProvider(d.Telemetry.TracerProvider),
			otelgrpc.WithMeterProvider(d.Telemetry.MeterProvider),
			otelgrpc.WithPropagators(d.Telemetry.Propagator),
		)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(int(size)), grpc.MaxCallSendMsgSize(int(size))),
		grpc.WithMaxHeaderListSize(maxHeaderBytes),
		grpc.WithDisableServiceConfig(), // a TXT record of the DNS decides nothing here
		grpc.WithDefaultServiceConfig(retryPolicy),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: handshakeTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithUnaryInterceptor(callUnary),
		grpc.WithStreamInterceptor(callStream),
	}
	conn, err := grpc.NewClient(target, append(options, d.Options...)...)
	if err != nil {
		return nil, fmt.Errorf("gRPC client for %s: %w", target, err)
	}
	return conn, nil
}

func callUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx, cancel := spend(ctx, DefaultCallTimeout)
	defer cancel()
	return apiError(invoke(ctx, method, req, reply, cc, opts...))
}

func callStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, start grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, cancel := spend(ctx, 0)
	cs, err := start(ctx, desc, cc, method, append(opts, grpc.OnFinish(func(error) { cancel() }))...)
	if err != nil {
		cancel()
		return nil, apiError(err)
	}
	return &clientStream{cs}, nil
}

// spend keeps a tenth of the time that is left back, at most answerMargin. A
// context without a deadline gets timeout, or none if timeout is 0.
func spend(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	switch {
	case ok:
		left := time.Until(deadline)
		return context.WithDeadline(ctx, deadline.Add(-min(left/10, answerMargin)))
	case timeout > 0:
		return context.WithTimeout(ctx, timeout)
	default:
		return context.WithCancel(ctx)
	}
}

// apiError gives every error of a call the one type of the fleet.
func apiError(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err // the end of a stream is no error
	}
	return apierr.From(err)
}

type clientStream struct{ grpc.ClientStream }

func (s *clientStream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	return md, apiError(err)
}

func (s *clientStream) CloseSend() error { return apiError(s.ClientStream.CloseSend()) }

func (s *clientStream) SendMsg(m any) error { return apiError(s.ClientStream.SendMsg(m)) }

func (s *clientStream) RecvMsg(m any) error { return apiError(s.ClientStream.RecvMsg(m)) }
