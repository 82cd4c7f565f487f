package consumer

import (
	"context"
	"errors"
	"fmt"
	"io"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/spool"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
)

// sbomInMemory is the largest bill of materials that is held in memory, in bytes;
// larger ones are held in a temporary file.
const sbomInMemory = 1 << 20

// sbomFormats are the scanner's names of the formats.
var sbomFormats = map[core.SBOMFormat]scannerv1.SbomFormat{
	core.SPDXJSON:      scannerv1.SbomFormat_SBOM_FORMAT_SPDX_JSON,
	core.CycloneDXJSON: scannerv1.SbomFormat_SBOM_FORMAT_CYCLONEDX_JSON,
}

// sbom reads a bill of materials of one platform manifest into doc, and checks it on
// the way.
func (h *Attest) sbom(ctx context.Context, ref imageref.Ref, format core.SBOMFormat, doc *spool.Spool) (core.SBOM, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	stream, err := h.Scans.GetSbom(ctx, &scannerv1.GetSbomRequest{
		Image:  &typev1.ImageRef{Registry: ref.Registry, Repository: ref.Repository, Digest: ref.Digest},
		Format: sbomFormats[format],
	})
	if err != nil {
		return core.SBOM{}, scannerFault("ask the scanner for the bill of materials", err)
	}
	w, err := core.NewSBOMWriter(format, ref.Digest, doc)
	if err != nil {
		return core.SBOM{}, err
	}
	for size := int64(0); ; {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			s, err := w.Finish(doc)
			return s, sbomFault(err)
		}
		if err != nil {
			return core.SBOM{}, scannerFault("read the bill of materials", err)
		}
		if size += int64(len(m.GetChunk())); size > h.MaxSBOM {
			return core.SBOM{}, &permanent{reason: ReasonTooLarge, err: fmt.Errorf(
				"the bill of materials of %s has more than %d bytes: raise max_sbom if that is right", ref, h.MaxSBOM)}
		}
		if _, err := w.Write(m.GetChunk()); err != nil {
			return core.SBOM{}, sbomFault(err)
		}
	}
}

// sbomFault tells a document that cannot be signed from a disk that is full.
func sbomFault(err error) error {
	if errors.Is(err, core.ErrSPDX) || errors.Is(err, core.ErrCycloneDX) {
		return &permanent{reason: ReasonReportInvalid, err: err}
	}
	return err
}
