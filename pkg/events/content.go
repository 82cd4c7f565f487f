package events

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
)

// ContentDigest returns the digest of what rules can read of a scan report, as
// seaworthy.scanner.v1.Report.content_digest defines it. The scanner tells it of a new
// report and the verifier computes it of the report it judged: two reports with one
// digest say the same, whichever scan or advisory snapshot they come from. Nil is
// answered like an empty report.
func ContentDigest(r *scannerv1.Report) (string, error) {
	content := &scannerv1.Report{
		ImageDigest: r.GetImageDigest(), Platform: r.GetPlatform(), Facts: r.GetFacts(),
		Packages: r.GetPackages(), Findings: r.GetFindings(), Incomplete: r.GetIncomplete(), Problems: r.GetProblems(),
		// Whether exploitation is known decides what the absence of a score means.
		Snapshot: &scannerv1.SnapshotInfo{
			Ecosystems: covered(r), ExploitedKnown: r.GetSnapshot().GetExploitedKnown(), ScoresKnown: r.GetSnapshot().GetScoresKnown(),
		},
	}
	loose, err := protojson.Marshal(content)
	if err != nil {
		return "", fmt.Errorf("content of report: %w", err)
	}
	var b bytes.Buffer
	// protojson varies its white space on purpose.
	if err := json.Compact(&b, loose); err != nil {
		return "", fmt.Errorf("content of report: %w", err)
	}
	sum := sha256.Sum256(b.Bytes())
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// covered lists the ecosystems of the snapshot that speak of the report's packages. That
// a snapshot gained or lost any other ecosystem changes nothing for this image.
func covered(r *scannerv1.Report) []string {
	of := map[string]bool{}
	for _, p := range r.GetPackages() {
		// Advisories for `Debian` speak of every release, also of `Debian:12`.
		base, _, _ := strings.Cut(p.GetEcosystem(), ":")
		of[p.GetEcosystem()], of[base] = true, true
	}
	var out []string
	for _, e := range r.GetSnapshot().GetEcosystems() {
		if of[e] {
			out = append(out, e)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
