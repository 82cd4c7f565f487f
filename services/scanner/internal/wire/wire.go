// Package wire maps the domain to the messages of seaworthy.scanner.v1, and makes
// the canonical form of reports.
package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// Report maps a report.
func Report(r *core.Report) *scannerv1.Report {
	out := &scannerv1.Report{
		ImageDigest:  r.ImageDigest,
		Platform:     Platform(r.Platform),
		Facts:        facts(r.Facts),
		Snapshot:     Snapshot(r.Snapshot),
		Scanner:      &scannerv1.ScannerInfo{Uri: r.ScannerURI, Version: r.ScannerVersion},
		Incomplete:   len(r.Problems) > 0,
		Problems:     r.Problems,
		PackageCount: int32(len(r.Packages)),
		FindingCount: int32(len(r.Findings)),
	}
	for i := range r.Packages {
		p := &r.Packages[i]
		out.Packages = append(out.Packages, &scannerv1.Package{
			Purl: p.PURL, Name: p.Name, Version: p.Version, Ecosystem: p.Ecosystem,
			SourceName: p.SourceName, SourceVersion: p.SourceVersion,
			Location: p.Location, LayerDigest: p.LayerDigest, Licenses: p.Licenses, InBaseImage: p.InBase,
		})
	}
	for i := range r.Findings {
		out.Findings = append(out.Findings, finding(&r.Findings[i]))
	}
	return out
}

func finding(f *core.Finding) *scannerv1.Finding {
	return &scannerv1.Finding{
		Id: f.ID, Aliases: f.Aliases, Purl: f.PURL, PackageName: f.PackageName, PackageVersion: f.PackageVersion,
		Severity: typev1.Severity(f.Severity), CvssScore: f.CVSSScore, CvssVector: f.CVSSVector,
		FixedVersions: f.FixedVersions, Summary: f.Summary, Kev: f.KEV, Epss: f.EPSS,
		LayerDigest: f.LayerDigest, Location: f.Location, InBaseImage: f.InBase,
	}
}

func facts(f core.Facts) *scannerv1.ImageFacts {
	out := &scannerv1.ImageFacts{
		User: f.User, NonRoot: f.NonRoot, Entrypoint: f.Entrypoint, Cmd: f.Cmd, ExposedPorts: f.ExposedPorts, EnvNames: f.EnvNames,
		Labels: f.Labels, CreateTime: Time(f.Created), DistroId: f.Distro.ID, DistroVersion: f.Distro.Version, Layers: f.Layers,
		DistroEndTime: Time(f.DistroEnd), EnvSha256: f.EnvSHA256, SetuidFiles: f.SetuidFiles, PackageManagers: f.PackageManagers, Shells: f.Shells,
	}
	if f.Base != (core.BaseImage{}) {
		out.BaseImage = &scannerv1.BaseImage{Name: f.Base.Name, Digest: f.Base.Digest, LayerCount: int32(f.Base.LayerCount)}
	}
	for _, s := range f.Secrets {
		out.Secrets = append(out.Secrets, &scannerv1.Secret{Kind: s.Kind, Location: s.Location, LayerDigest: s.LayerDigest, Deleted: s.Deleted})
	}
	return out
}

// Snapshot maps the name of a snapshot.
func Snapshot(s core.SnapshotInfo) *scannerv1.SnapshotInfo {
	return &scannerv1.SnapshotInfo{
		Digest: s.Digest, DataTime: Time(s.DataTime), AdvisoryCount: s.AdvisoryCount,
		RejectedCount: s.RejectedCount, Ecosystems: s.Ecosystems, ExploitedKnown: s.ExploitedKnown, ScoresKnown: s.ScoresKnown,
	}
}

// SnapshotWithCoverage maps all that is known of a snapshot.
func SnapshotWithCoverage(s core.SnapshotInfo) *scannerv1.SnapshotInfo {
	out := Snapshot(s)
	for _, c := range s.Coverage {
		out.Coverage = append(out.Coverage, &scannerv1.EcosystemCoverage{
			Ecosystem: c.Ecosystem, AdvisoryCount: c.AdvisoryCount, DataTime: Time(c.DataTime),
		})
	}
	return out
}

// Platform maps a platform.
func Platform(p core.Platform) *typev1.Platform {
	return &typev1.Platform{Os: p.OS, Architecture: p.Architecture, Variant: p.Variant}
}

// Image maps a reference.
func Image(r imageref.Ref) *typev1.ImageRef {
	return &typev1.ImageRef{Registry: r.Registry, Repository: r.Repository, Tag: r.Tag, Digest: r.Digest}
}

// Ref maps and checks a reference from outside.
func Ref(i *typev1.ImageRef) (imageref.Ref, error) {
	r := imageref.Ref{Registry: i.GetRegistry(), Repository: i.GetRepository(), Tag: i.GetTag(), Digest: i.GetDigest()}
	return r, r.Validate()
}

// Time maps a time; the zero time is nil.
func Time(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// Canonical returns the canonical form of a report, protojson without white
// space, and its digest.
func Canonical(r *scannerv1.Report) (content []byte, digest string, err error) {
	loose, err := protojson.Marshal(r)
	if err != nil {
		return nil, "", fmt.Errorf("encode report: %w", err)
	}
	var buf bytes.Buffer
	// protojson varies its white space on purpose.
	if err := json.Compact(&buf, loose); err != nil {
		return nil, "", fmt.Errorf("encode report: %w", err)
	}
	sum := sha256.Sum256(buf.Bytes())
	return buf.Bytes(), "sha256:" + hex.EncodeToString(sum[:]), nil
}

// Parse reads the canonical form. Members it does not know are passed over, so
// that a report of a newer release can still be read.
func Parse(content []byte) (*scannerv1.Report, error) {
	r := &scannerv1.Report{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(content, r); err != nil {
		return nil, fmt.Errorf("decode report: %w", err)
	}
	return r, nil
}
