package core

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Predicate types the signer writes. Each source has a closed list: reports of
// the scanner give the first five, verdicts of the verifier the others.
const (
	PredicateSPDX       = "https://spdx.dev/Document"
	PredicateCycloneDX  = "https://cyclonedx.org/bom"
	PredicateVulnsV02   = "https://in-toto.io/attestation/vulns/v0.2"
	PredicateCosignVuln = "https://cosign.sigstore.dev/attestation/vuln/v1"
	PredicateReference  = "https://in-toto.io/attestation/reference/v0.1"
	PredicateVSA        = "https://slsa.dev/verification_summary/v1"
	PredicateOpenVEX    = "https://openvex.dev/ns"
)

// Predicate is one claim that is ready to be signed.
type Predicate struct {
	// Type is one of the Predicate constants.
	Type string
	// ContentKey is the digest of what the claim was made from, "sha256:<hex>".
	// A claim with the content of the one in force adds nothing until that is old.
	ContentKey string
	// Time is when it was found to be true: the end of the scan, the evaluation of
	// the verdict. Of two claims of one type about one subject the later is in force.
	Time time.Time
	// JSON is the predicate, unless Document is.
	JSON json.RawMessage
	// Document is a predicate that may be too large for memory: one JSON object
	// without spaces between its tokens.
	Document Content
	// Revise is set for a claim that depends on the one in force before it: all
	// but Type is then in what it makes of that one's predicate, nil if there is
	// none. It says false if there is nothing to claim.
	Revise func(before json.RawMessage) (Predicate, bool, error)
}

// Content can be read from anywhere, as often as is wanted, by several readers at once.
type Content interface {
	io.ReaderAt
	// Size is the number of bytes.
	Size() int64
}

// Scan is one finished scan of an image.
type Scan struct {
	// ID is the scanner's name of the scan.
	ID string
	// StartTime and EndTime are the scanner's; the signer adds no clock of its own.
	StartTime, EndTime time.Time
}

// Report is the scan report of one platform manifest.
type Report struct {
	// ImageDigest is the digest of the platform manifest.
	ImageDigest string
	// Canonical is the report's canonical JSON, whole.
	Canonical []byte
	// Incomplete is true when the scanner could not read everything.
	Incomplete bool
	// ScannerURI and ScannerVersion name the scanner.
	ScannerURI, ScannerVersion string
	// SnapshotDigest names the advisory snapshot.
	SnapshotDigest string
	// SnapshotTime is its newest record; zero if the scan had no advisories.
	SnapshotTime time.Time
	// Findings are the vulnerabilities, in the report's order.
	Findings []Finding
}

// Finding is one vulnerability of one package.
type Finding struct {
	ID             string
	Aliases        []string
	PURL           string
	PackageName    string
	PackageVersion string
	// Severity is CRITICAL, HIGH, MEDIUM, LOW, NEGLIGIBLE or UNKNOWN.
	Severity      string
	CVSSScore     float64
	CVSSVector    string
	FixedVersions []string
	LayerDigest   string
	Location      string
}

// Digest is "sha256:" and the hex SHA-256 of b.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Evidence builds the predicates for one platform manifest from its report and
// its bills of materials, which were checked. The vulns v0.2 predicate is left out when the report is
// incomplete or was made without advisories: that format cannot say so, and an
// empty list in it means that nothing was found. The cosign form carries the
// report with its flags and is always there.
func Evidence(scan Scan, r Report, sboms ...SBOM) ([]Predicate, error) {
	if scan.StartTime.IsZero() || scan.EndTime.IsZero() {
		return nil, fmt.Errorf("scan %s has no start or end time", scan.ID)
	}
	var out []Predicate
	for _, s := range sboms {
		if s.Subject != r.ImageDigest {
			return nil, fmt.Errorf("the bill of materials describes %s, the report is of %s", s.Subject, r.ImageDigest)
		}
		p := s.claim()
		p.Time = scan.EndTime
		out = append(out, p)
	}
	key := Digest(r.Canonical)
	if !r.Incomplete && !r.SnapshotTime.IsZero() {
		v, err := vulnsV02(scan, r)
		if err != nil {
			return nil, fmt.Errorf("vulns v0.2 predicate: %w", err)
		}
		out = append(out, Predicate{Type: PredicateVulnsV02, ContentKey: key, Time: scan.EndTime, JSON: v})
	}
	c, err := cosignVuln(scan, r)
	if err != nil {
		return nil, fmt.Errorf("cosign vuln predicate: %w", err)
	}
	return append(out, Predicate{Type: PredicateCosignVuln, ContentKey: key, Time: scan.EndTime, JSON: c}), nil
}
