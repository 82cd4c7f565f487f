package e2e

import (
	"context"
	"errors"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/fleet"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	"github.com/seaworthy-dev/seaworthy/tests/internal/allinone"
)

// clientMay lists what a client may call: reads, and what starts no more than a push would.
var clientMay = []string{
	"AdvisoryService/GetSnapshot",
	"AttestationService/GetTrustBundle", "AttestationService/ListAttestations",
	"DeliveryService/ListDeliveries",
	"ExceptionService/GetException", "ExceptionService/ListExceptions",
	"PolicyService/GetPolicy", "PolicyService/GetRollout", "PolicyService/ListPolicies", "PolicyService/ListPolicyVersions",
	"ScannerService/GetSbom", "ScannerService/GetScan", "ScannerService/ListAffectedImages", "ScannerService/ListFindings",
	"ScannerService/ScanImage", "ScannerService/WatchScan",
	"SubscriptionService/GetSubscription", "SubscriptionService/ListSubscriptions",
	"VerdictService/BatchGetVerdicts", "VerdictService/ExplainVerdict", "VerdictService/GetVerdict", "VerdictService/GetVerdictHistory",
	"VerdictService/ListVerdicts", "VerdictService/RefreshVerdict", "VerdictService/WatchVerdicts",
	"VexService/ListVexDocuments",
}

// The certificate of a client calls every method of every service: it may call those of
// clientMay and no other, whatever is added later.
func TestE2E_ClientsOnlyRead(t *testing.T) {
	var certs string
	a := allinone.Start(t, func(c *fleet.Config) { certs = filepath.Join(c.DataDir, "certs") })
	ca, err := tlsx.LoadOrCreateCA(certs)
	if err != nil {
		t.Fatal(err)
	}
	domain := a.Context().TrustDomain
	cfg, err := ca.Issue(certs, "client", tlsx.ClientID(domain, "ci"), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	source, err := tlsx.NewSource(cfg)
	if err != nil {
		t.Fatal(err)
	}
	addresses := a.Context().Addresses
	conns := map[string]*grpc.ClientConn{}
	for service, address := range map[string]string{
		"scanner": addresses.Scanner, "signer": addresses.Signer, "verifier": addresses.Verifier, "notifier": addresses.Notifier,
	} {
		conn, err := grpcx.Dial(address, tlsx.ServiceID(domain, service), grpcx.ClientDeps{TLS: source, Telemetry: obs.Discard("client")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		conns[service] = conn
	}
	may := map[string]bool{}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		parts := strings.Split(string(file.Package()), ".")
		for i := range file.Services().Len() {
			if parts[0] != "seaworthy" {
				continue
			}
			conn, ok := conns[parts[1]]
			if !ok {
				t.Errorf("%s has a service, and nobody was asked", file.Package())
				continue
			}
			s := file.Services().Get(i)
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				if code := callEmpty(t, conn, m); code != codes.PermissionDenied {
					may[string(s.Name())+"/"+string(m.Name())] = true
				}
			}
		}
		return true
	})
	if got := slices.Sorted(maps.Keys(may)); !slices.Equal(got, clientMay) {
		t.Errorf("a client may call\n%q, want\n%q", got, clientMay)
	}
}

// callEmpty calls a method with an empty request.
func callEmpty(t *testing.T, conn *grpc.ClientConn, m protoreflect.MethodDescriptor) codes.Code {
	t.Helper()
	// A watch goes on until it is ended.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		"/"+string(m.Parent().FullName())+"/"+string(m.Name()))
	if err == nil {
		if err = stream.SendMsg(dynamicpb.NewMessage(m.Input())); err == nil || errors.Is(err, io.EOF) {
			_ = stream.CloseSend()
			err = stream.RecvMsg(dynamicpb.NewMessage(m.Output()))
		}
	}
	if err == nil || errors.Is(err, io.EOF) {
		return codes.OK
	}
	code := apierr.From(err).Code()
	if code == codes.Unavailable || code == codes.Unimplemented {
		t.Errorf("%s was not asked: %v", m.FullName(), err)
	}
	return code
}
