package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/spool"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/evidence"
)

// maxPlatforms is the limit of ImageScannedEvent.
const maxPlatforms = 64

// fetchTimeout bounds a call to the scanner or the verifier.
const fetchTimeout = 2 * time.Minute

// Attacher attaches claims to the manifest that ref names by digest.
type Attacher interface {
	Attach(ctx context.Context, ref imageref.Ref, claims []core.Predicate) ([]evidence.Attached, error)
	// Children are the digests and media types of the manifests that an index lists.
	Children(ctx context.Context, ref imageref.Ref) (map[string]string, error)
}

// PublishFunc publishes an event under an id.
type PublishFunc func(ctx context.Context, id string, e proto.Message) error

// Scans is what the signer asks the scanner.
type Scans = scannerv1.ScannerServiceClient

// Attest turns ImageScanned events into attestations and ImageAttested events.
type Attest struct {
	Scans    Scans
	Evidence Attacher
	Publish  PublishFunc
	// Formats are those of the bills of materials.
	Formats []core.SBOMFormat
	// MaxSBOM is the largest bill of materials that is read, in bytes.
	MaxSBOM int64
	Log     *slog.Logger
}

// Handle handles one event. Errors that no retry can fix are Permanent.
func (h *Attest) Handle(ctx context.Context, e *eventv1.ImageScannedEvent, _ *eventbus.Delivery) error {
	image, err := checkScanned(e)
	if err != nil {
		return eventbus.Permanent(ReasonInvalidEvent, err)
	}
	scan, reports, err := h.fetch(ctx, e)
	if err != nil {
		return fault(err)
	}
	for _, r := range reports {
		eventbus.Carry(ctx, int64(len(r.Canonical)))
	}
	out := &eventv1.ImageAttestedEvent{Image: e.GetImage(), ScanId: e.GetScanId(), ScanTime: timestamppb.New(scan.EndTime)}
	id := []string{"attested", e.GetScanId()}
	for i, r := range reports {
		platform := e.GetPlatforms()[i]
		attached, err := h.platform(ctx, image.WithDigest(platform.GetDigest()), scan, r)
		if err != nil {
			return fault(fmt.Errorf("attest %s: %w", platform.GetDigest(), err))
		}
		pe := &eventv1.ImageAttestedEvent_PlatformEvidence{Digest: platform.GetDigest(), Platform: platform.GetPlatform()}
		for _, a := range attached {
			pe.Attestations = append(pe.Attestations, &eventv1.ImageAttestedEvent_Attestation{
				PredicateType: a.PredicateType, ManifestDigest: a.ManifestDigest,
			})
			id = append(id, a.ManifestDigest)
		}
		out.Platforms = append(out.Platforms, pe)
	}
	if err := h.index(ctx, image, e, scan, reports); err != nil {
		return fault(fmt.Errorf("attest the index: %w", err))
	}
	if err := h.Publish(ctx, events.ID(id...), out); err != nil {
		return fmt.Errorf("publish that the image is attested: %w", err)
	}
	h.Log.InfoContext(ctx, "image attested", slog.String("image", image.String()),
		slog.String("scan_id", e.GetScanId()), slog.Int("platforms", len(out.GetPlatforms())))
	return nil
}

func (h *Attest) platform(ctx context.Context, ref imageref.Ref, scan core.Scan, r core.Report) ([]evidence.Attached, error) {
	var sboms []core.SBOM
	for _, format := range h.Formats {
		doc := spool.New(sbomInMemory)
		defer doc.Close()
		s, err := h.sbom(ctx, ref, format, doc)
		if err != nil {
			return nil, err
		}
		eventbus.Carry(ctx, doc.Size())
		defer eventbus.Carry(ctx, -doc.Size())
		sboms = append(sboms, s)
	}
	claims, err := core.Evidence(scan, r, sboms...)
	if err != nil {
		return nil, &permanent{reason: ReasonReportInvalid, err: err}
	}
	return h.Evidence.Attach(ctx, ref, claims)
}

// index attaches to an index which of its manifests have evidence.
func (h *Attest) index(ctx context.Context, image imageref.Ref, e *eventv1.ImageScannedEvent, scan core.Scan, reports []core.Report) error {
	if len(reports) == 1 && reports[0].ImageDigest == image.Digest {
		return nil
	}
	listed, err := h.Evidence.Children(ctx, image)
	if err != nil {
		return err
	}
	var children []core.Child
	for i, r := range reports {
		p := e.GetPlatforms()[i].GetPlatform()
		children = append(children, core.Child{
			Report: r, Platform: core.PlatformName(p.GetOs(), p.GetArchitecture(), p.GetVariant()), MediaType: listed[r.ImageDigest],
		})
	}
	claim, err := core.IndexReference(scan, image.Registry, image.Repository, children)
	if err != nil {
		return &permanent{reason: ReasonReportInvalid, err: err}
	}
	_, err = h.Evidence.Attach(ctx, image, []core.Predicate{claim})
	return err
}

// checkScanned checks the event alone.
func checkScanned(e *eventv1.ImageScannedEvent) (imageref.Ref, error) {
	image, err := imageOf(e.GetImage())
	if err != nil {
		return imageref.Ref{}, err
	}
	if e.GetScanId() == "" {
		return imageref.Ref{}, errors.New("the event names no scan")
	}
	if n := len(e.GetPlatforms()); n == 0 || n > maxPlatforms {
		return imageref.Ref{}, fmt.Errorf("the event names %d platforms, want 1 to %d", n, maxPlatforms)
	}
	for _, p := range e.GetPlatforms() {
		if err := imageref.CheckDigest(p.GetDigest()); err != nil {
			return imageref.Ref{}, fmt.Errorf("platform: %w", err)
		}
		if err := imageref.CheckDigest(p.GetReportDigest()); err != nil {
			return imageref.Ref{}, fmt.Errorf("report of %s: %w", p.GetDigest(), err)
		}
	}
	return image, nil
}

func imageOf(m *typev1.ImageRef) (imageref.Ref, error) {
	r := imageref.Ref{Registry: m.GetRegistry(), Repository: m.GetRepository(), Tag: m.GetTag(), Digest: m.GetDigest()}
	if err := r.Validate(); err != nil {
		return imageref.Ref{}, fmt.Errorf("image of the event: %w", err)
	}
	if r.Digest == "" {
		return imageref.Ref{}, errors.New("image of the event has no digest")
	}
	return r, nil
}
