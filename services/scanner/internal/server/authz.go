package server

import (
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/authz"
)

// Authz says who may call what. The signer fetches the report behind an event before it
// signs anything; the verifier asks what a newer scan says.
var Authz = authz.Table{
	scannerv1.ScannerService_ScanImage_FullMethodName:          {Operators: true, Clients: true},
	scannerv1.ScannerService_GetScan_FullMethodName:            {Operators: true, Clients: true, Services: []string{"signer", "verifier"}},
	scannerv1.ScannerService_WatchScan_FullMethodName:          {Operators: true, Clients: true},
	scannerv1.ScannerService_ListFindings_FullMethodName:       {Operators: true, Clients: true},
	scannerv1.ScannerService_GetSbom_FullMethodName:            {Operators: true, Clients: true, Services: []string{"signer"}},
	scannerv1.ScannerService_ListAffectedImages_FullMethodName: {Operators: true, Clients: true},
	scannerv1.AdvisoryService_GetSnapshot_FullMethodName:       {Operators: true, Clients: true},
	scannerv1.AdvisoryService_ImportSnapshot_FullMethodName:    {Operators: true},
	scannerv1.AdvisoryService_RefreshSnapshot_FullMethodName:   {Operators: true},
	scannerv1.AdvisoryService_ExportSnapshot_FullMethodName:    {Operators: true},
	scannerv1.AdvisoryService_ImportBundle_FullMethodName:      {Operators: true},
}
