// Package cosignvuln makes the predicate of the type
// https://cosign.sigstore.dev/attestation/vuln/v1 (cosign's
// COSIGN_VULN_ATTESTATION_SPEC.md), which `cosign attest --type vuln` takes and the
// signer attests.
package cosignvuln

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Scan is what the predicate says.
type Scan struct {
	// ID is the scanner's name of the scan; it may be empty.
	ID string
	// Start and End are when it was done.
	Start, End time.Time
	// ScannerURI names the scanner, DatabaseVersion the advisories that it used.
	ScannerURI, ScannerVersion, DatabaseVersion string
	// Report is the scanner's own report, a JSON value. It keeps its bytes.
	Report json.RawMessage
}

type predicate struct {
	Invocation invocation `json:"invocation"`
	Scanner    scanner    `json:"scanner"`
	Metadata   metadata   `json:"metadata"`
}

type invocation struct {
	Parameters []string `json:"parameters"`
	URI        string   `json:"uri"`
	EventID    string   `json:"event_id"`
	BuilderID  string   `json:"builder.id"`
}

type scanner struct {
	URI     string          `json:"uri"`
	Version string          `json:"version"`
	DB      database        `json:"db"`
	Result  json.RawMessage `json:"result"`
}

type database struct {
	URI     string `json:"uri"`
	Version string `json:"version"`
}

type metadata struct {
	ScanStartedOn  string `json:"scanStartedOn"`
	ScanFinishedOn string `json:"scanFinishedOn"`
}

// Predicate returns the predicate without spaces between its tokens. The same scan
// gives the same bytes. The error is of a Report that is no JSON.
func (s Scan) Predicate() (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	// The report keeps the bytes that its digest was taken of.
	e.SetEscapeHTML(false)
	err := e.Encode(predicate{
		Invocation: invocation{Parameters: []string{}, URI: s.ScannerURI, EventID: s.ID, BuilderID: s.ScannerURI},
		Scanner: scanner{
			URI: s.ScannerURI, Version: s.ScannerVersion, DB: database{Version: s.DatabaseVersion}, Result: s.Report,
		},
		Metadata: metadata{ScanStartedOn: stamp(s.Start), ScanFinishedOn: stamp(s.End)},
	})
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// stamp writes UTC in RFC 3339 with as many fractional digits as needed.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
