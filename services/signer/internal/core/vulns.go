package core

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/cosignvuln"
)

// The field names of these types are those of the in-toto predicate
// "vulns v0.2" (in-toto/attestation spec/predicates/vulns_02.md).
type (
	vulnsV02Predicate struct {
		Scanner  vulnsV02Scanner `json:"scanner"`
		Metadata scanMetadata    `json:"metadata"`
	}
	vulnsV02Scanner struct {
		URI     string           `json:"uri"`
		Version string           `json:"version,omitempty"`
		DB      vulnsV02DB       `json:"db"`
		Result  []vulnsV02Result `json:"result"`
	}
	vulnsV02DB struct {
		URI        string `json:"uri,omitempty"`
		Version    string `json:"version,omitempty"`
		LastUpdate string `json:"lastUpdate"`
	}
	vulnsV02Result struct {
		ID          string             `json:"id"`
		Severity    []vulnsV02Severity `json:"severity"`
		Annotations []vulnsV02Package  `json:"annotations"`
	}
	vulnsV02Severity struct {
		Method string `json:"method"`
		Score  string `json:"score"`
	}
	// vulnsV02Package travels as an annotation: the format has no field for the
	// package that a vulnerability is in.
	vulnsV02Package struct {
		PURL           string   `json:"purl,omitempty"`
		PackageName    string   `json:"packageName,omitempty"`
		PackageVersion string   `json:"packageVersion,omitempty"`
		FixedVersions  []string `json:"fixedVersions,omitempty"`
		Aliases        []string `json:"aliases,omitempty"`
		CVSSVector     string   `json:"cvssVector,omitempty"`
		LayerDigest    string   `json:"layerDigest,omitempty"`
		Location       string   `json:"location,omitempty"`
	}

	scanMetadata struct {
		ScanStartedOn  string `json:"scanStartedOn"`
		ScanFinishedOn string `json:"scanFinishedOn"`
	}
)

// severityMethod is the scale of the word severities: the scanner's own.
const severityMethod = "seaworthy"

func vulnsV02(scan Scan, r Report) (json.RawMessage, error) {
	p := vulnsV02Predicate{
		Scanner: vulnsV02Scanner{
			URI:     r.ScannerURI,
			Version: r.ScannerVersion,
			DB:      vulnsV02DB{Version: r.SnapshotDigest, LastUpdate: timestamp(r.SnapshotTime)},
			Result:  make([]vulnsV02Result, 0, len(r.Findings)),
		},
		Metadata: metadata(scan),
	}
	for _, f := range r.Findings {
		res := vulnsV02Result{
			ID:       f.ID,
			Severity: []vulnsV02Severity{{Method: severityMethod, Score: f.Severity}},
			Annotations: []vulnsV02Package{{
				PURL: f.PURL, PackageName: f.PackageName, PackageVersion: f.PackageVersion,
				FixedVersions: f.FixedVersions, Aliases: f.Aliases, CVSSVector: f.CVSSVector,
				LayerDigest: f.LayerDigest, Location: f.Location,
			}},
		}
		if f.CVSSScore > 0 {
			res.Severity = append(res.Severity, vulnsV02Severity{
				Method: cvssMethod(f.CVSSVector),
				Score:  strconv.FormatFloat(f.CVSSScore, 'f', 1, 64),
			})
		}
		p.Scanner.Result = append(p.Scanner.Result, res)
	}
	return marshal(p)
}

// cvssMethod is "CVSSv3.1" for "CVSS:3.1/AV:N/…"; vectors of version 2 carry no
// prefix.
func cvssMethod(vector string) string {
	if rest, ok := strings.CutPrefix(vector, "CVSS:"); ok {
		version, _, _ := strings.Cut(rest, "/")
		return "CVSSv" + version
	}
	if strings.HasPrefix(vector, "AV:") {
		return "CVSSv2"
	}
	return "CVSS"
}

func cosignVuln(scan Scan, r Report) (json.RawMessage, error) {
	return cosignvuln.Scan{
		ID: scan.ID, Start: scan.StartTime, End: scan.EndTime, ScannerURI: r.ScannerURI, ScannerVersion: r.ScannerVersion,
		DatabaseVersion: r.SnapshotDigest, Report: r.Canonical,
	}.Predicate()
}

func metadata(s Scan) scanMetadata {
	return scanMetadata{ScanStartedOn: timestamp(s.StartTime), ScanFinishedOn: timestamp(s.EndTime)}
}

// timestamp writes UTC in RFC 3339 with as many fractional digits as needed.
func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// marshal is json.Marshal without HTML escapes: the report inside a predicate
// keeps the bytes that its digest was taken of.
func marshal(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}
