package server

import (
	"google.golang.org/grpc"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/sbom"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

// chunkSize is the size of a piece of a document, in bytes.
const chunkSize = 64 << 10

// GetSbom implements the RPC.
func (s *scanner) GetSbom(req *scannerv1.GetSbomRequest, stream grpc.ServerStreamingServer[scannerv1.GetSbomResponse]) error {
	write := sbom.SPDX
	switch req.GetFormat() {
	case scannerv1.SbomFormat_SBOM_FORMAT_UNSPECIFIED, scannerv1.SbomFormat_SBOM_FORMAT_SPDX_JSON:
	case scannerv1.SbomFormat_SBOM_FORMAT_CYCLONEDX_JSON:
		write = sbom.CycloneDX
	default:
		return apierr.InvalidField("format", "is not known")
	}
	if req.GetImage() == nil {
		return apierr.InvalidField("image", "must be given")
	}
	ctx := stream.Context()
	sc, err := s.newest(ctx, req.GetImage(), true)
	if err != nil {
		return notFound(err)
	}
	ref, ok := choose(sc, req.GetImage().GetDigest(), req.GetPlatform())
	if !ok {
		return errScanNotFound
	}
	r, err := s.Reports.Report(ctx, ref.ReportDigest)
	if err != nil {
		return err
	}
	// A scan that only matched the same inventory with other advisories is no reason for
	// another document: it keeps the time at which this scanner first read the image.
	at, err := s.Store.FirstReportTime(ctx, r.GetImageDigest(), r.GetScanner().GetVersion())
	if err != nil {
		return err
	}
	doc, err := write(sc.Image.Name(), r, at)
	if err != nil {
		return err
	}
	for len(doc) > 0 {
		chunk := doc[:min(len(doc), chunkSize)]
		doc = doc[len(chunk):]
		if err := stream.Send(&scannerv1.GetSbomResponse{Chunk: chunk}); err != nil {
			return err
		}
	}
	return nil
}

// choose finds the platform: the manifest asked for by its own digest, else the
// platform asked for, else the first.
func choose(sc store.Scan, digest string, p *typev1.Platform) (core.ReportRef, bool) {
	for _, r := range sc.Reports {
		if r.ImageDigest == digest {
			return r, true
		}
	}
	for _, r := range sc.Reports {
		want := core.Platform{OS: p.GetOs(), Architecture: p.GetArchitecture(), Variant: p.GetVariant()}
		if p == nil || r.Platform == want {
			return r, true
		}
	}
	return core.ReportRef{}, false
}
