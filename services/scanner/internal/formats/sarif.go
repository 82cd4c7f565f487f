package formats

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
)

// The members of SARIF 2.1.0 that are written.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Results     []sarifResult     `json:"results"`
		Invocations []sarifInvocation `json:"invocations"`
		Properties  map[string]any    `json:"properties"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		URI     string      `json:"informationUri"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID         string         `json:"id"`
		Short      *sarifMessage  `json:"shortDescription,omitempty"`
		HelpURI    string         `json:"helpUri,omitempty"`
		Properties map[string]any `json:"properties"`
	}
	sarifMessage struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID       string            `json:"ruleId"`
		RuleIndex    int               `json:"ruleIndex"`
		Level        string            `json:"level"`
		Message      sarifMessage      `json:"message"`
		Locations    []sarifLocation   `json:"locations"`
		Fingerprints map[string]string `json:"partialFingerprints"`
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   sarifRegion   `json:"region"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
	}
	sarifLogical struct {
		FullyQualifiedName string `json:"fullyQualifiedName"`
		Kind               string `json:"kind"`
	}
	sarifInvocation struct {
		Start         string              `json:"startTimeUtc,omitempty"`
		End           string              `json:"endTimeUtc,omitempty"`
		Successful    bool                `json:"executionSuccessful"`
		Notifications []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct {
		Level   string       `json:"level"`
		Message sarifMessage `json:"message"`
	}
)

const sarifSchema = "https://json.schemastore.org/sarif-2.1.0.json"

// SARIF returns the report in SARIF 2.1.0, which code hosts show. A rule is a
// vulnerability, a result is one in a package. An incomplete report is an
// unsuccessful run with notifications. start and end are the times of the scan.
func SARIF(name string, r *scannerv1.Report, start, end time.Time) ([]byte, error) {
	run := sarifRun{
		Tool:        sarifTool{Driver: sarifDriver{Name: "Seaworthy", Version: r.GetScanner().GetVersion(), URI: "https://seaworthy.dev", Rules: []sarifRule{}}},
		Results:     []sarifResult{},
		Invocations: []sarifInvocation{{Start: utc(start), End: utc(end), Successful: !r.GetIncomplete()}},
		Properties:  map[string]any{"image": name, "imageDigest": r.GetImageDigest(), "advisories": r.GetSnapshot().GetDigest()},
	}
	for _, p := range r.GetProblems() {
		run.Invocations[0].Notifications = append(run.Invocations[0].Notifications, sarifNotification{Level: "error", Message: sarifMessage{p}})
	}
	rules := map[string]int{}
	findings := slices.Clone(r.GetFindings())
	slices.SortStableFunc(findings, func(a, b *scannerv1.Finding) int { return cmp.Compare(a.GetId(), b.GetId()) })
	for _, f := range findings {
		i, ok := rules[f.GetId()]
		if !ok {
			i = len(run.Tool.Driver.Rules)
			rules[f.GetId()] = i
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, rule(f))
		}
		run.Results = append(run.Results, result(f, i))
	}
	return encode(sarifLog{Schema: sarifSchema, Version: "2.1.0", Runs: []sarifRun{run}})
}

func rule(f *scannerv1.Finding) sarifRule {
	out := sarifRule{ID: f.GetId(), Properties: map[string]any{"tags": []string{"security", "vulnerability"}, "aliases": f.GetAliases()}}
	if f.GetAliases() == nil {
		delete(out.Properties, "aliases")
	}
	if s := f.GetSummary(); s != "" {
		out.Short = &sarifMessage{s}
	}
	if id := f.GetId(); id == url.PathEscape(id) {
		out.HelpURI = "https://osv.dev/vulnerability/" + id
	}
	// GitHub orders by this property, a CVSS score as text.
	out.Properties["security-severity"] = strconv.FormatFloat(score(f), 'f', 1, 64)
	return out
}

// score is the CVSS score, or the middle of what the severity stands for.
func score(f *scannerv1.Finding) float64 {
	if f.GetCvssScore() > 0 {
		return f.GetCvssScore()
	}
	switch f.GetSeverity() {
	case typev1.Severity_SEVERITY_CRITICAL:
		return 9.5
	case typev1.Severity_SEVERITY_HIGH:
		return 8
	case typev1.Severity_SEVERITY_MEDIUM:
		return 5.5
	case typev1.Severity_SEVERITY_LOW:
		return 2
	default:
		return 0
	}
}

func level(s typev1.Severity) string {
	switch s {
	case typev1.Severity_SEVERITY_CRITICAL, typev1.Severity_SEVERITY_HIGH:
		return "error"
	case typev1.Severity_SEVERITY_MEDIUM:
		return "warning"
	default:
		return "note"
	}
}

func result(f *scannerv1.Finding, ruleIndex int) sarifResult {
	text := fmt.Sprintf("%s %s has %s", f.GetPackageName(), f.GetPackageVersion(), f.GetId())
	if len(f.GetFixedVersions()) > 0 {
		text += ", fixed in " + strings.Join(f.GetFixedVersions(), ", ")
	}
	sum := sha256.Sum256([]byte(f.GetId() + "\x00" + f.GetPurl() + "\x00" + f.GetLocation()))
	return sarifResult{
		RuleID: f.GetId(), RuleIndex: ruleIndex, Level: level(f.GetSeverity()), Message: sarifMessage{text},
		Locations: []sarifLocation{{
			Physical: sarifPhysical{Artifact: sarifArtifact{URI: (&url.URL{Path: f.GetLocation()}).EscapedPath()}, Region: sarifRegion{StartLine: 1}},
			Logical:  []sarifLogical{{FullyQualifiedName: f.GetPurl(), Kind: "package"}},
		}},
		Fingerprints: map[string]string{"seaworthy/v1": hex.EncodeToString(sum[:16])},
	}
}

// utc is empty for a time that is not known.
func utc(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// encode is json.Marshal without HTML escapes.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
