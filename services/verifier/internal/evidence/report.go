package evidence

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
)

// maxPredicate is the size of a predicate that rules can see; a larger one is
// verified evidence all the same.
const maxPredicate = 1 << 20

// decoded is the predicate as rules see it: none of the large documents that
// rules see in another form, and none that is no object.
func decoded(predicateType string, predicate json.RawMessage) map[string]any {
	switch predicateType {
	case attest.PredicateCosignVuln, attest.PredicateVulnsV02, attest.PredicateSPDX, attest.PredicateCycloneDX:
		return nil
	}
	if len(predicate) > maxPredicate {
		return nil
	}
	var out map[string]any
	if err := strictjson.Unmarshal(predicate, &out); err != nil {
		return nil
	}
	return out
}

// DecodeReport reads the scan report out of a verified cosign vuln predicate.
func DecodeReport(predicate json.RawMessage, digest string) (*core.Report, error) {
	var p struct {
		Scanner struct {
			Result json.RawMessage `json:"result"`
		} `json:"scanner"`
		Metadata struct {
			ScanFinishedOn time.Time `json:"scanFinishedOn"`
		} `json:"metadata"`
	}
	if err := strictjson.Unmarshal(predicate, &p); err != nil {
		return nil, fmt.Errorf("predicate: %w", err)
	}
	var m scannerv1.Report
	// A newer scanner may say more than this release knows.
	if err := strictjson.UnmarshalMessage(p.Scanner.Result, &m); err != nil {
		return nil, fmt.Errorf("scanner.result is no report: %w", err)
	}
	if m.GetImageDigest() != digest {
		return nil, fmt.Errorf("the report is about %.100q", m.GetImageDigest())
	}
	if len(m.GetPackages()) > policy.MaxPackages || len(m.GetFindings()) > policy.MaxFindings {
		return nil, fmt.Errorf("the report has %d packages and %d findings, at most %d and %d are taken",
			len(m.GetPackages()), len(m.GetFindings()), policy.MaxPackages, policy.MaxFindings)
	}
	// Counts and lists are in one signed document; a report without its lists, as
	// SCAN_VIEW_BASIC gives it, must not look clean.
	if int(m.GetPackageCount()) != len(m.GetPackages()) || int(m.GetFindingCount()) != len(m.GetFindings()) {
		return nil, errors.New("the report does not hold as many packages and findings as it counts")
	}
	content, err := events.ContentDigest(&m)
	if err != nil {
		return nil, err
	}
	r := fromReport(&m)
	r.ScanTime, r.Content = p.Metadata.ScanFinishedOn.UTC(), content
	return r, nil
}

func fromReport(m *scannerv1.Report) *core.Report {
	r := &core.Report{
		Image:          facts(m.GetFacts()),
		Platform:       platform(m.GetPlatform()),
		AdvisoryDigest: m.GetSnapshot().GetDigest(),
		Incomplete:     m.GetIncomplete(),
		Problems:       m.GetProblems(),
		NoExploited:    !m.GetSnapshot().GetExploitedKnown(),
		NoScores:       !m.GetSnapshot().GetScoresKnown(),
	}
	if t := m.GetSnapshot().GetDataTime(); t != nil {
		r.AdvisoryTime = t.AsTime()
	}
	for _, p := range m.GetPackages() {
		r.Packages = append(r.Packages, core.Package{
			Purl: p.GetPurl(), Name: p.GetName(), Version: p.GetVersion(), Ecosystem: p.GetEcosystem(),
			SourceName: p.GetSourceName(), SourceVersion: p.GetSourceVersion(), Location: p.GetLocation(),
			Licenses: p.GetLicenses(), InBaseImage: p.GetInBaseImage(),
		})
	}
	if unknown := unknownEcosystems(m); len(unknown) > 0 {
		r.Incomplete = true
		r.Problems = append(slices.Clone(r.Problems), "the advisory snapshot knows nothing of "+strings.Join(unknown, ", "))
	}
	for _, f := range m.GetFindings() {
		rank := int64(f.GetSeverity())
		if rank == int64(typev1.Severity_SEVERITY_UNSPECIFIED) {
			rank = core.SeverityUnknown
		}
		r.Findings = append(r.Findings, core.Finding{
			ID: f.GetId(), Aliases: f.GetAliases(), Severity: core.SeverityName(rank), SeverityRank: rank,
			CVSS: f.GetCvssScore(), EPSS: f.GetEpss(), KEV: f.GetKev(),
			Package: f.GetPackageName(), Version: f.GetPackageVersion(), Purl: f.GetPurl(),
			FixedVersions: f.GetFixedVersions(), Location: f.GetLocation(),
			InBaseImage: f.GetInBaseImage(),
		})
	}
	return r
}

// unknownEcosystems are those of packages that the snapshot has no advisory for,
// sorted. Nothing was found in such packages because nothing was looked for.
func unknownEcosystems(m *scannerv1.Report) []string {
	known := map[string]bool{}
	for _, e := range m.GetSnapshot().GetEcosystems() {
		known[e] = true
	}
	unknown := map[string]bool{}
	for _, p := range m.GetPackages() {
		e := p.GetEcosystem()
		// Advisories for `Debian` speak of every release, also of `Debian:12`.
		base, _, _ := strings.Cut(e, ":")
		if e != "" && !known[e] && !known[base] {
			unknown[e] = true
		}
	}
	return slices.Sorted(maps.Keys(unknown))
}

func facts(f *scannerv1.ImageFacts) core.Image {
	i := core.Image{
		Labels: f.GetLabels(), User: f.GetUser(), NonRoot: f.GetNonRoot(), Entrypoint: f.GetEntrypoint(), Cmd: f.GetCmd(),
		ExposedPorts: f.GetExposedPorts(), EnvNames: f.GetEnvNames(),
		Distro:      core.Distro{ID: f.GetDistroId(), Version: f.GetDistroVersion()},
		SetuidFiles: f.GetSetuidFiles(), PackageManagers: f.GetPackageManagers(), Shells: f.GetShells(),
		BaseImage: core.BaseImage{
			Name: f.GetBaseImage().GetName(), Digest: f.GetBaseImage().GetDigest(), LayerCount: int64(f.GetBaseImage().GetLayerCount()),
		},
	}
	if t := f.GetDistroEndTime(); t != nil {
		i.DistroEndTime = t.AsTime()
	}
	for _, s := range f.GetSecrets() {
		i.Secrets = append(i.Secrets, core.Secret{Kind: s.GetKind(), Location: s.GetLocation(), LayerDigest: s.GetLayerDigest()})
	}
	if t := f.GetCreateTime(); t != nil {
		i.Created = t.AsTime()
	}
	return i
}

func platform(p *typev1.Platform) core.Platform {
	return core.Platform{OS: p.GetOs(), Architecture: p.GetArchitecture(), Variant: p.GetVariant()}
}
