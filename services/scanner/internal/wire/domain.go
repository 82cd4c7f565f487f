package wire

import (
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// Domain maps a stored report back. Report of its result is the report again; the
// problems of the inventory alone are not in it.
func Domain(r *scannerv1.Report) *core.Report {
	f, s, p := r.GetFacts(), r.GetSnapshot(), r.GetPlatform()
	out := &core.Report{
		ImageDigest: r.GetImageDigest(),
		Platform:    core.Platform{OS: p.GetOs(), Architecture: p.GetArchitecture(), Variant: p.GetVariant()},
		Facts: core.Facts{
			// A report of an earlier release does not say; of a number it is known all the same.
			User: f.GetUser(), NonRoot: f.GetNonRoot() || core.NonRoot(f.GetUser(), p.GetOs(), nil), Entrypoint: f.GetEntrypoint(), Cmd: f.GetCmd(), ExposedPorts: f.GetExposedPorts(), EnvNames: f.GetEnvNames(),
			Labels: f.GetLabels(), Distro: core.Distro{ID: f.GetDistroId(), Version: f.GetDistroVersion()}, Layers: f.GetLayers(),
			EnvSHA256: f.GetEnvSha256(), SetuidFiles: f.GetSetuidFiles(), PackageManagers: f.GetPackageManagers(), Shells: f.GetShells(),
		},
		Snapshot: core.SnapshotInfo{
			Digest: s.GetDigest(), AdvisoryCount: s.GetAdvisoryCount(), RejectedCount: s.GetRejectedCount(), Ecosystems: s.GetEcosystems(),
			ExploitedKnown: s.GetExploitedKnown(), ScoresKnown: s.GetScoresKnown(),
		},
		ScannerURI: r.GetScanner().GetUri(), ScannerVersion: r.GetScanner().GetVersion(), Problems: r.GetProblems(),
	}
	if b := f.GetBaseImage(); b != nil {
		out.Facts.Base = core.BaseImage{Name: b.GetName(), Digest: b.GetDigest(), LayerCount: int(b.GetLayerCount())}
	}
	for _, s := range f.GetSecrets() {
		out.Facts.Secrets = append(out.Facts.Secrets, core.Secret{Kind: s.GetKind(), Location: s.GetLocation(), LayerDigest: s.GetLayerDigest(), Deleted: s.GetDeleted()})
	}
	if f.GetDistroEndTime() != nil {
		out.Facts.DistroEnd = f.GetDistroEndTime().AsTime()
	}
	if f.GetCreateTime() != nil {
		out.Facts.Created = f.GetCreateTime().AsTime()
	}
	if s.GetDataTime() != nil {
		out.Snapshot.DataTime = s.GetDataTime().AsTime()
	}
	for _, p := range r.GetPackages() {
		out.Packages = append(out.Packages, core.Package{
			PURL: p.GetPurl(), Name: p.GetName(), Version: p.GetVersion(), Ecosystem: p.GetEcosystem(),
			SourceName: p.GetSourceName(), SourceVersion: p.GetSourceVersion(),
			Location: p.GetLocation(), LayerDigest: p.GetLayerDigest(), Licenses: p.GetLicenses(), InBase: p.GetInBaseImage(),
		})
	}
	for _, f := range r.GetFindings() {
		out.Findings = append(out.Findings, core.Finding{
			ID: f.GetId(), Aliases: f.GetAliases(), PURL: f.GetPurl(), PackageName: f.GetPackageName(), PackageVersion: f.GetPackageVersion(),
			Severity: core.Severity(f.GetSeverity()), CVSSScore: f.GetCvssScore(), CVSSVector: f.GetCvssVector(),
			FixedVersions: f.GetFixedVersions(), Summary: f.GetSummary(), KEV: f.GetKev(), EPSS: f.GetEpss(),
			LayerDigest: f.GetLayerDigest(), Location: f.GetLocation(), InBase: f.GetInBaseImage(),
		})
	}
	return out
}
