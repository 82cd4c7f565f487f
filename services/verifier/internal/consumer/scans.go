package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
)

// askTimeout bounds a question to the scanner.
const askTimeout = 15 * time.Second

// errNoScan says that the scanner knows no such scan, or none that ended with reports.
var errNoScan = errors.New("scan unknown to the scanner")

// Scans notes what new scan reports say, so that a verdict cannot outlive them. An event
// only says that it is time to ask the scanner.
type Scans struct {
	Recorder *Recorder
	// Scanner is asked what a scan said.
	Scanner scannerv1.ScannerServiceClient
	Now     func() time.Time
}

// Handle notes the scan of an event.
func (s *Scans) Handle(ctx context.Context, ev *eventv1.ImageScannedEvent, _ *eventbus.Delivery) error {
	if err := checkImage(verdictpb.Ref(ev.GetImage()), true); err != nil {
		return eventbus.Permanent(reasonMalformedEvent, err)
	}
	scan, err := s.ask(ctx, verdictpb.Ref(ev.GetImage()), ev.GetScanId())
	if errors.Is(err, errNoScan) {
		s.Recorder.log.WarnContext(ctx, "event ignored: its scan is of another image",
			"image", ev.GetImage().GetDigest(), "scan_id", ev.GetScanId(), "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	return s.record(ctx, scan)
}

func (s *Scans) record(ctx context.Context, scan store.Scan) error {
	return s.Recorder.Store.RecordScan(ctx, scan, s.Now(), s.Recorder.Patience.Longest)
}

// ask asks the scanner what a scan of an image said; an empty id asks for the newest.
func (s *Scans) ask(ctx context.Context, image imageref.Ref, id string) (store.Scan, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req := &scannerv1.GetScanRequest{ScanId: id, View: scannerv1.ScanView_SCAN_VIEW_BASIC}
	if id == "" {
		req.Image = verdictpb.Image(byDigest(image))
	}
	resp, err := s.Scanner.GetScan(ctx, req)
	switch status.Code(err) {
	case codes.OK:
	case codes.NotFound, codes.InvalidArgument:
		return store.Scan{}, fmt.Errorf("%w: %w", errNoScan, err)
	default:
		return store.Scan{}, fmt.Errorf("ask the scanner: %w", err)
	}
	found := resp.GetScan()
	scan := store.Scan{Image: byDigest(verdictpb.Ref(found.GetImage())), Time: found.GetEndTime().AsTime(), Contents: map[string]string{}}
	switch {
	case scan.Image != byDigest(image):
		return store.Scan{}, fmt.Errorf("%w: scan %s is of %s", errNoScan, found.GetScanId(), scan.Image.String())
	case found.GetState() != scannerv1.Scan_STATE_SUCCEEDED || found.GetEndTime() == nil:
		return store.Scan{}, fmt.Errorf("%w: scan %s is %s", errNoScan, found.GetScanId(), found.GetState())
	}
	for _, r := range found.GetReports() {
		scan.Contents[r.GetImageDigest()] = r.GetContentDigest()
	}
	return scan, checkContents(scan)
}

// checkContents refuses a scan that does not tell what it says: one of an older scanner
// during an upgrade. Its reports are judged as ever, but a verdict does not wait for them.
func checkContents(scan store.Scan) error {
	if len(scan.Contents) == 0 {
		return fmt.Errorf("%w: it has no reports", errNoScan)
	}
	for platform, content := range scan.Contents {
		if content == "" {
			return fmt.Errorf("%w: it does not tell what the report of %s says", errNoScan, platform)
		}
	}
	return nil
}

// byDigest is the image without its tag.
func byDigest(image imageref.Ref) imageref.Ref {
	image.Tag = ""
	return image
}
