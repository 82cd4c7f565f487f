// Package authz decides who may call which RPC: one table per service with a
// row per RPC. Who is not named by the row may not call, an RPC without a row
// may be called by nobody, and a server whose table and RPCs do not agree does
// not start.
package authz

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// ReasonDenied is the reason of the errors that Check returns.
const ReasonDenied = "PERMISSION_DENIED"

// Rule names the callers of one RPC. The empty rule lets nobody in.
type Rule struct {
	// Services that may call, by name, for example "signer".
	Services []string
	// Operators lets every operator call.
	Operators bool
	// Clients lets every client call.
	Clients bool
}

// Table has a row per RPC. The key is the full method, for example
// scannerv1.ScannerService_ScanImage_FullMethodName.
type Table map[string]Rule

// exempt are the services of gRPC itself that any peer with a certificate of the
// fleet may call and that need no row.
var exempt = []string{
	"/grpc.health.v1.Health/",
	"/grpc.reflection.v1.ServerReflection/",
	"/grpc.reflection.v1alpha.ServerReflection/",
}

// Check returns nil if the peer may call the method. Otherwise, also for a peer
// of another trust domain, it returns an *apierr.Error with PERMISSION_DENIED.
func (t Table) Check(peerID, trustDomain, fullMethod string) error {
	peer, err := tlsx.ParseID(peerID)
	if err != nil {
		return apierr.New(codes.PermissionDenied, ReasonDenied, "the caller has no identity of this fleet").WithCause(err)
	}
	if peer.TrustDomain != trustDomain {
		return denied(peerID, fullMethod)
	}
	if isExempt(fullMethod) {
		return nil
	}
	rule, ok := t[fullMethod]
	if !ok || !rule.allows(peer) {
		return denied(peerID, fullMethod)
	}
	return nil
}

func (r Rule) allows(peer tlsx.Identity) bool {
	switch peer.Kind {
	case tlsx.KindService:
		return slices.Contains(r.Services, peer.Name)
	case tlsx.KindOperator:
		return r.Operators
	case tlsx.KindClient:
		return r.Clients
	default:
		return false
	}
}

func denied(peerID, fullMethod string) error {
	return apierr.Newf(codes.PermissionDenied, ReasonDenied, "%s may not call %s", peerID, fullMethod)
}

// Covers checks that every registered method has a row and that every row
// belongs to a registered method. The error names all that do not agree. Health
// and reflection need no row and may have none.
func (t Table) Covers(registered []string) error {
	var problems []string
	known := make(map[string]bool, len(registered))
	for _, m := range registered {
		known[m] = true
		if _, ok := t[m]; !ok && !isExempt(m) {
			problems = append(problems, "no row for "+m)
		}
	}
	for m := range t {
		switch {
		case isExempt(m):
			problems = append(problems, "row for "+m+", which every peer may call")
		case !known[m]:
			problems = append(problems, "row for "+m+", which is not registered")
		}
	}
	if len(problems) == 0 {
		return nil
	}
	sort.Strings(problems)
	return fmt.Errorf("authorization table and RPCs do not agree: %s", strings.Join(problems, "; "))
}

func isExempt(fullMethod string) bool {
	return slices.ContainsFunc(exempt, func(prefix string) bool { return strings.HasPrefix(fullMethod, prefix) })
}
