package consumer

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
)

// TestCheckedReport_NewerScanner: during an upgrade a report may hold fields that
// this signer was not built with. Its digest cannot be checked, which is a reason
// to wait for the new signer and not to give up on the image.
func TestCheckedReport_NewerScanner(t *testing.T) {
	r := &scannerv1.Report{ImageDigest: "sha256:1", Findings: []*scannerv1.Finding{{Id: "CVE-1"}}}
	event := &eventv1.ImageScannedEvent_PlatformScan{Digest: "sha256:1", ReportDigest: core.Digest([]byte("something newer"))}

	_, err := checkedReport(event, r)
	if got := eventbus.Reason(fault(err)); got != ReasonReportMismatch || !eventbus.IsPermanent(fault(err)) {
		t.Errorf("a changed report: %v, want %s", err, ReasonReportMismatch)
	}

	newer := proto.CloneOf(r)
	unknown := protowire.AppendTag(nil, 1000, protowire.VarintType)
	newer.GetFindings()[0].ProtoReflect().SetUnknown(protowire.AppendVarint(unknown, 7))
	if _, err := checkedReport(event, newer); err == nil || eventbus.IsPermanent(fault(err)) {
		t.Errorf("a report with unknown fields: %v, want an error that is tried again", err)
	}
}
