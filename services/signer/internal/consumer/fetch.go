package consumer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
)

// fetch gets the scan that the event names and checks that it is the one the
// event speaks of, report by report, byte for byte.
func (h *Attest) fetch(ctx context.Context, e *eventv1.ImageScannedEvent) (core.Scan, []core.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	resp, err := h.Scans.GetScan(ctx, &scannerv1.GetScanRequest{
		ScanId: e.GetScanId(), View: scannerv1.ScanView_SCAN_VIEW_FULL,
	})
	if err != nil {
		return core.Scan{}, nil, scannerFault("fetch the scan", err)
	}
	s := resp.GetScan()
	if err := checkScan(e, s); err != nil {
		return core.Scan{}, nil, &permanent{reason: ReasonReportMismatch, err: err}
	}
	reports := make([]core.Report, len(e.GetPlatforms()))
	for i, p := range e.GetPlatforms() {
		if reports[i], err = checkedReport(p, s.GetReports()[i]); err != nil {
			return core.Scan{}, nil, err
		}
	}
	return core.Scan{ID: s.GetScanId(), StartTime: s.GetCreateTime().AsTime(), EndTime: s.GetEndTime().AsTime()}, reports, nil
}

func checkScan(e *eventv1.ImageScannedEvent, s *scannerv1.Scan) error {
	want, got := e.GetImage(), s.GetImage()
	switch {
	case s.GetScanId() != e.GetScanId():
		return fmt.Errorf("the scanner gave scan %q for %q", s.GetScanId(), e.GetScanId())
	case s.GetState() != scannerv1.Scan_STATE_SUCCEEDED:
		return fmt.Errorf("scan %s is in state %s", s.GetScanId(), s.GetState())
	case got.GetRegistry() != want.GetRegistry() || got.GetRepository() != want.GetRepository() || got.GetDigest() != want.GetDigest():
		return fmt.Errorf("scan %s is of %s/%s@%s, the event of %s/%s@%s", s.GetScanId(),
			got.GetRegistry(), got.GetRepository(), got.GetDigest(),
			want.GetRegistry(), want.GetRepository(), want.GetDigest())
	case len(s.GetReports()) != len(e.GetPlatforms()):
		return fmt.Errorf("scan %s has %d reports, the event names %d", s.GetScanId(), len(s.GetReports()), len(e.GetPlatforms()))
	case s.GetCreateTime() == nil || s.GetEndTime() == nil:
		return fmt.Errorf("scan %s has no start or end time", s.GetScanId())
	}
	return nil
}

func checkedReport(p *eventv1.ImageScannedEvent_PlatformScan, r *scannerv1.Report) (core.Report, error) {
	if r.GetImageDigest() != p.GetDigest() {
		return core.Report{}, &permanent{reason: ReasonReportMismatch, err: fmt.Errorf(
			"the report is of %s, the event of %s", r.GetImageDigest(), p.GetDigest())}
	}
	canonical, err := canonicalJSON(r)
	if err != nil {
		return core.Report{}, err
	}
	if got := core.Digest(canonical); got != p.GetReportDigest() {
		if hasUnknownFields(r) {
			// A rolling upgrade, not a lie: the next signer will understand it.
			return core.Report{}, errors.New("the report has fields that this signer does not know: upgrade the signer")
		}
		return core.Report{}, &permanent{reason: ReasonReportMismatch, err: fmt.Errorf(
			"the report of %s has digest %s, the event says %s", p.GetDigest(), got, p.GetReportDigest())}
	}
	return toCore(r, canonical), nil
}

// canonicalJSON is protojson without the white space that it varies on purpose.
func canonicalJSON(m proto.Message) ([]byte, error) {
	loose, err := protojson.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("canonical form: %w", err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, loose); err != nil {
		return nil, fmt.Errorf("canonical form: %w", err)
	}
	return b.Bytes(), nil
}

// hasUnknownFields says whether m or anything in it came with fields that this
// program was not generated with.
func hasUnknownFields(m proto.Message) bool {
	raw, err := proto.Marshal(m)
	if err != nil {
		return false
	}
	known := m.ProtoReflect().New().Interface()
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, known); err != nil {
		return false
	}
	return proto.Size(known) != len(raw)
}

func toCore(r *scannerv1.Report, canonical []byte) core.Report {
	out := core.Report{
		ImageDigest: r.GetImageDigest(), Canonical: canonical, Incomplete: r.GetIncomplete(),
		ScannerURI: r.GetScanner().GetUri(), ScannerVersion: r.GetScanner().GetVersion(),
		SnapshotDigest: r.GetSnapshot().GetDigest(),
	}
	if t := r.GetSnapshot().GetDataTime(); isSet(t) {
		out.SnapshotTime = t.AsTime()
	}
	for _, f := range r.GetFindings() {
		out.Findings = append(out.Findings, core.Finding{
			ID: f.GetId(), Aliases: f.GetAliases(), PURL: f.GetPurl(), PackageName: f.GetPackageName(),
			PackageVersion: f.GetPackageVersion(), Severity: severity(f.GetSeverity()), CVSSScore: f.GetCvssScore(),
			CVSSVector: f.GetCvssVector(), FixedVersions: f.GetFixedVersions(),
			LayerDigest: f.GetLayerDigest(), Location: f.GetLocation(),
		})
	}
	return out
}

func isSet(t *timestamppb.Timestamp) bool {
	return t.GetSeconds() != 0 || t.GetNanos() != 0
}

func severity(s typev1.Severity) string {
	if s == typev1.Severity_SEVERITY_UNSPECIFIED {
		s = typev1.Severity_SEVERITY_UNKNOWN
	}
	return strings.TrimPrefix(s.String(), "SEVERITY_")
}
