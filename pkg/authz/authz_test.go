package authz_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/authz"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

const (
	domain = "seaworthy.local"
	read   = "/seaworthy.test.v1.ThingService/GetThing"
	write  = "/seaworthy.test.v1.ThingService/PutThing"
	closed = "/seaworthy.test.v1.ThingService/DropThing"
	health = "/grpc.health.v1.Health/Check"
)

var table = authz.Table{
	read:   {Services: []string{"signer"}, Operators: true, Clients: true},
	write:  {Operators: true},
	closed: {},
}

func TestTable_Check(t *testing.T) {
	t.Parallel()
	signer, scanner := tlsx.ServiceID(domain, "signer"), tlsx.ServiceID(domain, "scanner")
	operator, client := tlsx.OperatorID(domain, "alice"), tlsx.ClientID(domain, "ci")
	for _, tc := range []struct {
		name, peer, method string
		allowed            bool
	}{
		{"named service", signer, read, true},
		{"other service", scanner, read, false},
		{"operator", operator, read, true},
		{"client", client, read, true},
		{"client where only operators may", client, write, false},
		{"service where only operators may", signer, write, false},
		{"operator writes", operator, write, true},
		{"empty row", operator, closed, false},
		{"no row", operator, "/seaworthy.test.v1.ThingService/Other", false},
		{"client named like a service", tlsx.ClientID(domain, "signer"), write, false},
		{"other trust domain", tlsx.OperatorID("evil.local", "alice"), read, false},
		{"other trust domain, health", tlsx.OperatorID("evil.local", "alice"), health, false},
		{"health needs no row", scanner, health, true},
		{"no identity", "", read, false},
		{"no identity, health", "", health, false},
		{"not a SPIFFE ID", "https://seaworthy.local/service/signer", read, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := table.Check(tc.peer, domain, tc.method)
			if tc.allowed {
				if err != nil {
					t.Fatalf("Check() = %v, want nil", err)
				}
				return
			}
			if got := apierr.From(err).Code(); err == nil || got != codes.PermissionDenied {
				t.Fatalf("Check() = %v (%s), want PermissionDenied", err, got)
			}
			if !apierr.HasReason(err, authz.ReasonDenied) {
				t.Errorf("reason = %q, want %s", apierr.From(err).Reason(), authz.ReasonDenied)
			}
		})
	}
}

func TestTable_Covers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name       string
		registered []string
		want       []string // parts of the error; none means nil
	}{
		{name: "agree", registered: []string{read, write, closed, health}},
		{name: "missing row", registered: []string{read, write, closed, "/a.B/New"}, want: []string{"no row for /a.B/New"}},
		{name: "extra row", registered: []string{read, closed}, want: []string{"row for " + write + ", which is not registered"}},
		{name: "both", registered: []string{read, closed, "/a.B/New"}, want: []string{"no row for /a.B/New", "row for " + write}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := table.Covers(tc.registered)
			if (err != nil) != (len(tc.want) > 0) {
				t.Fatalf("Covers() = %v, want parts %q", err, tc.want)
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("Covers() = %v, want it to contain %q", err, w)
				}
			}
		})
	}
	if err := (authz.Table{health: {Clients: true}}).Covers([]string{health}); err == nil {
		t.Error("a row for health was accepted")
	}
}

func ExampleTable_Check() {
	table := authz.Table{
		"/seaworthy.scanner.v1.ScannerService/GetScan": {Services: []string{"signer"}, Operators: true},
	}
	err := table.Check("spiffe://seaworthy.local/service/notifier", "seaworthy.local", "/seaworthy.scanner.v1.ScannerService/GetScan")
	fmt.Println(apierr.From(err).Code(), apierr.From(err).Reason())
	// Output: PermissionDenied PERMISSION_DENIED
}
