package server

import (
	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/authz"
)

// Authz says who may call what. The services other than the verifier have no use
// for the trust bundle today, but it holds nothing secret.
var Authz = authz.Table{
	signerv1.AttestationService_ListAttestations_FullMethodName: {Operators: true, Clients: true},
	signerv1.AttestationService_GetTrustBundle_FullMethodName: {
		Services: []string{"gateway", "scanner", "verifier", "notifier"}, Operators: true, Clients: true,
	},
	signerv1.KeyAdminService_ListKeys_FullMethodName:  {Operators: true},
	signerv1.KeyAdminService_RotateKey_FullMethodName: {Operators: true},
	signerv1.KeyAdminService_RevokeKey_FullMethodName: {Operators: true},
}
