// Package server is the gRPC side of the scanner: it maps messages to the domain
// and back, and decides nothing.
package server

import (
	"context"
	"crypto"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/wire"
)

// Resolver resolves images with the scanner's own credentials.
type Resolver interface {
	Resolve(ctx context.Context, ref imageref.Ref) (string, *core.Manifest, error)
}

// Reports reads reports by their digest.
type Reports interface {
	Report(ctx context.Context, digest string) (*scannerv1.Report, error)
}

// Publisher publishes events.
type Publisher interface {
	PublishPushed(ctx context.Context, id string, e *eventv1.ImagePushedEvent) error
	PublishAdvisories(ctx context.Context, id string, e *eventv1.AdvisoriesUpdatedEvent) error
}

// Deps is what the servers work with.
type Deps struct {
	Store     store.Store
	Reports   Reports
	Resolver  Resolver
	Publisher Publisher
	Snapshots Snapshots
	Affected  Affected
	Feeds     Feeds
	// TrustedKeys sign the bundles that may be imported.
	TrustedKeys []crypto.PublicKey
	Now         func() time.Time
	// WatchInterval is how often WatchScan looks for a change.
	WatchInterval time.Duration
}

// Register registers both services.
func Register(r grpc.ServiceRegistrar, d Deps) {
	scannerv1.RegisterScannerServiceServer(r, &scanner{Deps: d})
	scannerv1.RegisterAdvisoryServiceServer(r, &advisories{Deps: d})
}

const reasonScanNotFound = "SCAN_NOT_FOUND"

var errScanNotFound = apierr.New(codes.NotFound, reasonScanNotFound, "no such scan")

// scanner implements scanner.v1.ScannerService.
type scanner struct {
	scannerv1.UnimplementedScannerServiceServer
	Deps
	limits callerLimits
}

// GetScan implements the RPC.
func (s *scanner) GetScan(ctx context.Context, req *scannerv1.GetScanRequest) (*scannerv1.GetScanResponse, error) {
	var sc store.Scan
	var err error
	switch {
	case req.GetScanId() != "" && req.GetImage() != nil:
		return nil, apierr.InvalidField("scan_id", "give either scan_id or image, not both")
	case req.GetScanId() != "":
		sc, err = s.Store.Scan(ctx, req.GetScanId())
	case req.GetImage() != nil:
		sc, err = s.newest(ctx, req.GetImage(), false)
	default:
		return nil, apierr.InvalidField("scan_id", "give scan_id or image")
	}
	if err != nil {
		return nil, notFound(err)
	}
	out, err := s.message(ctx, sc, req.GetView() == scannerv1.ScanView_SCAN_VIEW_FULL)
	if err != nil {
		return nil, err
	}
	return &scannerv1.GetScanResponse{Scan: out}, nil
}

// newest finds the newest scan of an image by digest, or of what its tag meant
// when it was last scanned.
func (s *scanner) newest(ctx context.Context, image *typev1.ImageRef, finished bool) (store.Scan, error) {
	ref, err := wire.Ref(image)
	if err != nil {
		return store.Scan{}, apierr.InvalidField("image", err.Error())
	}
	if ref.Digest == "" {
		if ref.Digest, err = s.Store.TagDigest(ctx, ref); err != nil {
			return store.Scan{}, err
		}
	}
	return s.Store.NewestScan(ctx, ref, finished)
}

func notFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return errScanNotFound.WithCause(err)
	}
	return err
}

// message maps a scan with its reports.
func (s *scanner) message(ctx context.Context, sc store.Scan, full bool) (*scannerv1.Scan, error) {
	out := &scannerv1.Scan{
		ScanId: sc.ID, Image: wire.Image(sc.Image), State: scannerv1.Scan_State(sc.State),
		ErrorReason: sc.ErrorReason, ErrorMessage: sc.ErrorMessage,
		CreateTime: wire.Time(sc.CreateTime), EndTime: wire.Time(sc.EndTime), TraceId: sc.TraceID,
	}
	for _, ref := range sc.Reports {
		r, err := s.Reports.Report(ctx, ref.ReportDigest)
		if err != nil {
			return nil, err
		}
		if !full {
			if r.ContentDigest, err = contentDigest(ref, r); err != nil {
				return nil, err
			}
			r.Packages, r.Findings = nil, nil
		}
		out.Reports = append(out.Reports, r)
	}
	return out, nil
}

// contentDigest computes what an earlier release did not store.
func contentDigest(ref core.ReportRef, r *scannerv1.Report) (string, error) {
	if ref.ContentDigest != "" {
		return ref.ContentDigest, nil
	}
	return events.ContentDigest(r)
}

// WatchScan implements the RPC. It looks at the store, so it also sees what
// another replica does.
func (s *scanner) WatchScan(req *scannerv1.WatchScanRequest, stream grpc.ServerStreamingServer[scannerv1.WatchScanResponse]) error {
	if req.GetScanId() == "" {
		return apierr.InvalidField("scan_id", "must not be empty")
	}
	ctx := stream.Context()
	t := time.NewTicker(s.WatchInterval)
	defer t.Stop()
	var last store.State
	for {
		sc, err := s.Store.Scan(ctx, req.GetScanId())
		if err != nil {
			return notFound(err)
		}
		if sc.State != last {
			last = sc.State
			m, err := s.message(ctx, sc, false)
			if err != nil {
				return err
			}
			if err := stream.Send(&scannerv1.WatchScanResponse{Scan: m}); err != nil {
				return err
			}
		}
		if sc.State.Ended() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}
