package grpcx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/authz"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// ReasonStopping is the reason of the error that ends a stream because the
// server stops; the caller may go on at another replica.
const ReasonStopping = "SERVER_STOPPING"

// interceptors are the steps that every call of a server goes through.
type interceptors struct {
	table       authz.Table
	trustDomain string
	maxDeadline time.Duration
	log         *slog.Logger
	stopping    <-chan struct{} // closed when streams must end
}

// PeerID returns the SPIFFE ID of the caller in a handler, or "" outside of one.
func PeerID(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return ""
	}
	id, err := tlsx.PeerID(info.State)
	if err != nil {
		return ""
	}
	return id
}

func (in *interceptors) reportUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
	start := time.Now()
	resp, err := h(ctx, req)
	if err = in.report(ctx, info.FullMethod, start, err); err != nil {
		return nil, err
	}
	return resp, nil
}

func (in *interceptors) reportStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) error {
	start := time.Now()
	return in.report(ss.Context(), info.FullMethod, start, h(srv, ss))
}

// report turns the outcome of a call into what the caller may see, and logs the
// call once, with what the caller may not see.
func (in *interceptors) report(ctx context.Context, method string, start time.Time, err error) error {
	if err == nil && !in.log.Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	attrs := []slog.Attr{
		slog.String("rpc", method),
		slog.String("peer", PeerID(ctx)),
		slog.Duration("duration", time.Since(start)),
	}
	if err == nil {
		in.log.LogAttrs(ctx, slog.LevelDebug, "rpc done", attrs...)
		return nil
	}
	e := apierr.From(err)
	attrs = append(attrs,
		slog.String("code", e.Code().String()), slog.String("reason", e.Reason()), slog.String("error", err.Error()))
	var p *panicError
	if errors.As(err, &p) {
		attrs = append(attrs, slog.String("stack", p.stack))
	}
	in.log.LogAttrs(ctx, level(e.Code()), "rpc failed", attrs...)
	return e.GRPCStatus().Err()
}

// level tells faults of the server from mistakes of the caller.
func level(c codes.Code) slog.Level {
	switch c {
	case codes.Internal, codes.Unknown, codes.DataLoss:
		return slog.LevelError
	case codes.Unavailable, codes.DeadlineExceeded, codes.PermissionDenied:
		return slog.LevelWarn
	case codes.ResourceExhausted:
		// Counted by the metrics: a line for each call would let one caller fill the disk.
		return slog.LevelDebug
	default:
		return slog.LevelInfo
	}
}

// panicError is a panic of a handler. The caller sees a masked error.
type panicError struct {
	value any
	stack string
}

func (p *panicError) Error() string { return fmt.Sprintf("panic: %v", p.value) }

func recovered(v any) error { return &panicError{value: v, stack: string(debug.Stack())} }

func (in *interceptors) recoverUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (resp any, err error) {
	defer func() {
		if v := recover(); v != nil {
			resp, err = nil, recovered(v)
		}
	}()
	return h(ctx, req)
}

func (in *interceptors) recoverStream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = recovered(v)
		}
	}()
	return h(srv, ss)
}

func (in *interceptors) authorizeUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
	if err := in.table.Check(PeerID(ctx), in.trustDomain, info.FullMethod); err != nil {
		return nil, err
	}
	return h(ctx, req)
}

func (in *interceptors) authorizeStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) error {
	if err := in.table.Check(PeerID(ss.Context()), in.trustDomain, info.FullMethod); err != nil {
		return err
	}
	return h(srv, ss)
}

// deadlineUnary bounds the call and does not begin one whose time is spent.
func (in *interceptors) deadlineUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, in.maxDeadline)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return h(ctx, req)
}

// stopStream ends the context of a stream when the server stops.
func (in *interceptors) stopStream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
	ctx, cancel := context.WithCancelCause(ss.Context())
	defer cancel(nil)
	go func() {
		select {
		case <-in.stopping:
			cancel(errStopping)
		case <-ctx.Done():
		}
	}()
	err := h(srv, &serverStream{ServerStream: ss, ctx: ctx})
	if err != nil && errors.Is(context.Cause(ctx), errStopping) {
		return apierr.New(codes.Unavailable, ReasonStopping, "the server is stopping").WithCause(err)
	}
	return err
}

// serverStream is a stream with another context.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a gRPC stream carries its context
}

func (s *serverStream) Context() context.Context { return s.ctx }
