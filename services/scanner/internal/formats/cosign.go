// Package formats writes reports in the formats that other tools read.
package formats

import (
	"time"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/cosignvuln"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/wire"
)

// CosignVuln returns the predicate that `cosign attest --type vuln` takes. Its
// result is the canonical report. It has the times of the scan, which are not part
// of the report.
func CosignVuln(r *scannerv1.Report, start, end time.Time) ([]byte, error) {
	canonical, _, err := wire.Canonical(r)
	if err != nil {
		return nil, err
	}
	return cosignvuln.Scan{
		Start: start, End: end, ScannerURI: r.GetScanner().GetUri(), ScannerVersion: r.GetScanner().GetVersion(),
		DatabaseVersion: r.GetSnapshot().GetDigest(), Report: canonical,
	}.Predicate()
}
