// Package formats writes reports in the formats that other tools read.
package formats

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/wire"
)

// The members are those of cosign's COSIGN_VULN_ATTESTATION_SPEC.md, as the signer
// fills them.
type (
	cosignVuln struct {
		Invocation cosignInvocation `json:"invocation"`
		Scanner    cosignScanner    `json:"scanner"`
		Metadata   cosignMetadata   `json:"metadata"`
	}
	cosignInvocation struct {
		Parameters []string `json:"parameters"`
		URI        string   `json:"uri"`
		EventID    string   `json:"event_id"`
		BuilderID  string   `json:"builder.id"`
	}
	cosignScanner struct {
		URI     string          `json:"uri"`
		Version string          `json:"version"`
		DB      cosignDB        `json:"db"`
		Result  json.RawMessage `json:"result"`
	}
	cosignDB struct {
		URI     string `json:"uri"`
		Version string `json:"version"`
	}
	cosignMetadata struct {
		ScanStartedOn  string `json:"scanStartedOn"`
		ScanFinishedOn string `json:"scanFinishedOn"`
	}
)

// CosignVuln returns the predicate that `cosign attest --type vuln` takes. Its
// result is the canonical report. It has the times of the scan, which are not part
// of the report.
func CosignVuln(r *scannerv1.Report, start, end time.Time) ([]byte, error) {
	canonical, _, err := wire.Canonical(r)
	if err != nil {
		return nil, err
	}
	uri := r.GetScanner().GetUri()
	return encode(cosignVuln{
		Invocation: cosignInvocation{Parameters: []string{}, URI: uri, BuilderID: uri},
		Scanner: cosignScanner{
			URI: uri, Version: r.GetScanner().GetVersion(), DB: cosignDB{Version: r.GetSnapshot().GetDigest()}, Result: canonical,
		},
		Metadata: cosignMetadata{ScanStartedOn: stamp(start), ScanFinishedOn: stamp(end)},
	})
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// encode is json.Marshal without HTML escapes: the report in it keeps its bytes.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
