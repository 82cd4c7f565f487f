package app

import (
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/authz"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
)

// authzTable says who may call what.
func authzTable() authz.Table {
	read := authz.Rule{Services: []string{events.Gateway}, Operators: true, Clients: true}
	operators := authz.Rule{Operators: true}
	people := authz.Rule{Operators: true, Clients: true}
	return authz.Table{
		verifierv1.VerdictService_GetVerdict_FullMethodName: {
			Services: []string{events.Gateway, events.Signer}, Operators: true, Clients: true,
		},
		verifierv1.VerdictService_BatchGetVerdicts_FullMethodName: read,
		verifierv1.VerdictService_ListVerdicts_FullMethodName:     read,
		verifierv1.VerdictService_WatchVerdicts_FullMethodName:    read,
		verifierv1.VerdictService_ExplainVerdict_FullMethodName:   people,

		// The notifier confirms by it what it tells.
		verifierv1.VerdictService_GetVerdictHistory_FullMethodName: {
			Services: []string{events.Gateway, events.Notifier}, Operators: true, Clients: true,
		},
		verifierv1.VerdictService_RefreshVerdict_FullMethodName: people,

		verifierv1.PolicyService_GetPolicy_FullMethodName:    people,
		verifierv1.PolicyService_ListPolicies_FullMethodName: people,
		verifierv1.PolicyService_CreatePolicy_FullMethodName: operators,
		verifierv1.PolicyService_UpdatePolicy_FullMethodName: operators,
		verifierv1.PolicyService_DeletePolicy_FullMethodName: operators,
		verifierv1.PolicyService_TestPolicy_FullMethodName:   operators,

		verifierv1.PolicyService_ListPolicyVersions_FullMethodName: people,
		verifierv1.PolicyService_ExportEvidence_FullMethodName:     operators,
		verifierv1.PolicyService_GetRollout_FullMethodName:         people,

		verifierv1.VexService_ImportVexDocument_FullMethodName: operators,
		verifierv1.VexService_ListVexDocuments_FullMethodName:  people,
		verifierv1.VexService_DeleteVexDocument_FullMethodName: operators,

		verifierv1.DeadLetterService_ListDeadLetters_FullMethodName: operators,
		verifierv1.DeadLetterService_GetDeadLetter_FullMethodName:   operators,

		verifierv1.ExceptionService_CreateException_FullMethodName: operators,
		verifierv1.ExceptionService_GetException_FullMethodName:    people,
		verifierv1.ExceptionService_ListExceptions_FullMethodName:  people,
		verifierv1.ExceptionService_DeleteException_FullMethodName: operators,
	}
}
