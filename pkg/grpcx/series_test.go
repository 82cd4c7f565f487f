package grpcx_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/obs/obstest"
)

// TestSeriesOfStrangers calls methods, and sends metadata, that the caller made up: none
// becomes a label.
func TestSeriesOfStrangers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	telemetry := obs.Discard("scanner")
	server, err := grpcx.NewServer(f.cfg, grpcx.ServerDeps{
		TLS: f.source(t, f.ca, serverID), Authz: f.table, Telemetry: telemetry, Readiness: f.readiness,
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
	call := func(n int) {
		conn, err := grpc.NewClient(server.Addr(), grpc.WithTransportCredentials(credentials.NewTLS(f.source(t, f.ca, callerID).Client(serverID))),
			grpc.WithAuthority(fmt.Sprintf("hostile-label-%d.test", n)), grpc.WithUserAgent(fmt.Sprintf("hostile-label-%d", n)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, method := range []string{"/hostile.label%d/Echo", "/seaworthy.test.v1.EchoService/hostile-label-%d", echo} {
			if strings.Contains(method, "%d") {
				method = fmt.Sprintf(method, n)
			}
			ctx := metadata.AppendToOutgoingContext(t.Context(), fmt.Sprintf("hostile-label-%d", n), "x",
				"traceparent", fmt.Sprintf("hostile-label-%d", n), "baggage", fmt.Sprintf("hostile-label=%d", n))
			_ = conn.Invoke(ctx, method, wrapperspb.String("x"), new(wrapperspb.StringValue)) // most must fail
		}
	}
	call(1)
	// A call is measured a moment after its answer.
	for end := time.Now().Add(5 * time.Second); !obstest.HasLabel(t, telemetry.Registry, "rpc_method", strings.TrimPrefix(echo, "/")); {
		if time.Now().After(end) {
			t.Fatal("no call is measured")
		}
		time.Sleep(time.Millisecond)
	}
	before := obstest.Series(t, telemetry.Registry)
	for n := range 30 {
		call(n)
	}
	obstest.NoNewSeries(t, before, telemetry.Registry, "hostile")
}
