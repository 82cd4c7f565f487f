package app

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/buildinfo"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/extract"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/formats"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/oneshot"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/sbom"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/wire"
)

// ScanOnceOptions say what ScanOnce scans and how.
type ScanOnceOptions struct {
	// Target is an image reference, `oci:DIR`, `oci:DIR:TAG`, `tar:FILE`,
	// `docker-archive:FILE` or `sbom:FILE`.
	Target string
	// Platform chooses from an index; nil means this machine's, for Linux.
	Platform *typev1.Platform
	// Advisories are files, archives and directories of OSV records, or one snapshot
	// file. Without any the report has packages and no findings.
	Advisories []string
	// PlainHTTP asks the registry without TLS. Registries on loopback always are.
	PlainHTTP bool
	// Progress, if set, is told what is read.
	Progress *ScanProgress
	// Now is the clock.
	Now func() time.Time
}

// ScanProgress counts what was read of an image. Its zero value is ready.
type ScanProgress = oneshot.Progress

// ScanOnceResult is what was found in one image.
type ScanOnceResult struct {
	// Name is what the image is called, without tag and digest.
	Name string
	// Report is the same that the service makes of the image.
	Report *scannerv1.Report
	// Rejected are the first advisories that could not be used, in words.
	Rejected []string
	// Start and End are the times of the scan.
	Start, End time.Time
}

// ScanOnce scans one image without a server, a database or an event bus, with the
// credentials of docker's configuration.
func ScanOnce(ctx context.Context, o ScanOnceOptions) (*ScanOnceResult, error) {
	out := &ScanOnceResult{Start: o.Now()}
	cfg := Default()
	opts := oneshot.Options{
		Target: o.Target, Platform: core.Platform{OS: o.Platform.GetOs(), Architecture: o.Platform.GetArchitecture(), Variant: o.Platform.GetVariant()},
		Default: core.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Limits:  extract.DefaultLimits(), Layers: max(cfg.Scan.Layers, runtime.GOMAXPROCS(0)), Version: buildinfo.Version(),
		Keychain: authn.DefaultKeychain, PlainHTTP: o.PlainHTTP, Progress: o.Progress,
	}
	if len(o.Advisories) > 0 {
		snapshot, rejected, err := oneshot.Advisories(o.Advisories, cfg.Advisories.MaxRecords)
		if err != nil {
			return nil, fmt.Errorf("advisories: %w", err)
		}
		opts.Matcher, out.Rejected = snapshot, rejected
	}
	report, name, err := oneshot.Scan(ctx, opts)
	if err != nil {
		return nil, err
	}
	out.Name, out.Report, out.End = name, wire.Report(report), o.Now()
	return out, nil
}

// JSON is the report in its canonical form, whose SHA-256 is its digest.
func (r *ScanOnceResult) JSON() ([]byte, error) {
	content, _, err := wire.Canonical(r.Report)
	return content, err
}

// SPDX is the bill of materials in SPDX 2.3.
func (r *ScanOnceResult) SPDX() ([]byte, error) { return sbom.SPDX(r.Name, r.Report, r.End) }

// CycloneDX is the bill of materials in CycloneDX 1.6.
func (r *ScanOnceResult) CycloneDX() ([]byte, error) { return sbom.CycloneDX(r.Name, r.Report, r.End) }

// SARIF is the report in SARIF 2.1.0.
func (r *ScanOnceResult) SARIF() ([]byte, error) {
	return formats.SARIF(r.Name, r.Report, r.Start, r.End)
}

// CosignVuln is the predicate that `cosign attest --type vuln` takes.
func (r *ScanOnceResult) CosignVuln() ([]byte, error) {
	return formats.CosignVuln(r.Report, r.Start, r.End)
}
