package grpcx_test

import (
	"context"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
)

// TestQuiet calls a quiet method: it is measured like others, and in a trace only if
// the caller records one.
func TestQuiet(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	telemetry := obs.Discard("scanner")
	var traced []bool
	f.service.unary = func(ctx context.Context, v *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
		traced = append(traced, trace.SpanContextFromContext(ctx).IsValid())
		if v.GetValue() == "fail" {
			return nil, apierr.New(codes.NotFound, "NONE", "none")
		}
		return v, nil
	}
	server, err := grpcx.NewServer(f.cfg, grpcx.ServerDeps{
		TLS: f.source(t, f.ca, serverID), Authz: f.table, Telemetry: telemetry, Readiness: f.readiness, Quiet: []string{echo},
	})
	if err != nil {
		t.Fatal(err)
	}
	server.RegisterService(&echoDesc, f.service)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient(server.Addr(), grpc.WithTransportCredentials(credentials.NewTLS(f.source(t, f.ca, callerID).Client(serverID))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"
	for _, tc := range []struct {
		header, value string
		traced        bool
	}{{"", "a", false}, {parent + "00", "a", false}, {parent + "01", "a", true}, {"-", "a", false}, {"", "fail", false}} {
		traced = nil
		ctx := t.Context()
		if tc.header != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", tc.header)
		}
		err := conn.Invoke(ctx, echo, wrapperspb.String(tc.value), new(wrapperspb.StringValue))
		if (err != nil) != (tc.value == "fail") || len(traced) != 1 || traced[0] != tc.traced {
			t.Errorf("%+v: %v, traced %v", tc, err, traced)
		}
	}
	// A call is measured after its answer is sent.
	counts := statusCounts(t, telemetry)
	for deadline := time.Now().Add(10 * time.Second); counts["OK"]+counts["NOT_FOUND"] < 5 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
		counts = statusCounts(t, telemetry)
	}
	if counts["OK"] != 4 || counts["NOT_FOUND"] != 1 {
		t.Errorf("measured: %v", counts)
	}
}

// statusCounts counts the calls measured by their status.
func statusCounts(t *testing.T, telemetry *obs.Telemetry) map[string]uint64 {
	t.Helper()
	families, err := telemetry.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, family := range families {
		if family.GetName() != "rpc_server_call_duration_seconds" {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "rpc_response_status_code" {
					counts[l.GetValue()] += m.GetHistogram().GetSampleCount()
				}
			}
		}
	}
	return counts
}
