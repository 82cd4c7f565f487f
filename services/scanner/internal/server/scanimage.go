package server

import (
	"context"
	"crypto/rand"
	"errors"
	"regexp"

	"google.golang.org/grpc/codes"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/consumer"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/wire"
)

var uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// ScanImage implements the RPC. The image is resolved first, so that a caller
// hears at once of one that does not exist; then the scan is stored; then the
// event is published. A crash between the last two is healed by the caller's
// next try with the same request_id.
func (s *scanner) ScanImage(ctx context.Context, req *scannerv1.ScanImageRequest) (*scannerv1.ScanImageResponse, error) {
	ref, err := wire.Ref(req.GetImage())
	if err != nil {
		return nil, apierr.InvalidField("image", err.Error())
	}
	requestID := req.GetRequestId()
	switch {
	case requestID == "":
		requestID = rand.Text()
	case !uuid.MatchString(requestID):
		return nil, apierr.InvalidField("request_id", "must be a UUID")
	}
	digest, m, err := s.Resolver.Resolve(ctx, ref)
	if err != nil {
		return nil, faultError(err)
	}
	eventID := events.ID("scan-requested", grpcx.PeerID(ctx), requestID)
	asked := ref
	ref = ref.WithDigest(digest)
	sc, err := s.Store.CreateScan(ctx, store.Scan{
		ID: consumer.ScanID(eventID), Image: ref, State: store.Queued,
		TraceID: obs.TraceID(ctx), CreateTime: s.Now(),
	})
	if err != nil {
		return nil, err
	}
	if sc.Image.Name() != ref.Name() || sc.Image.Tag != ref.Tag || asked.Digest != "" && asked.Digest != sc.Image.Digest {
		return nil, apierr.InvalidField("request_id", "was used for another image")
	}
	if sc.State == store.Queued {
		err = s.Publisher.PublishPushed(ctx, eventID, &eventv1.ImagePushedEvent{
			Image: wire.Image(sc.Image), MediaType: m.MediaType, Cause: eventv1.ImagePushedEvent_CAUSE_REQUESTED,
		})
		if err != nil {
			return nil, busError(err)
		}
	}
	out, err := s.message(ctx, sc, false)
	if err != nil {
		return nil, err
	}
	return &scannerv1.ScanImageResponse{Scan: out}, nil
}

func busError(err error) error {
	if errors.Is(err, eventbus.ErrUnavailable) || errors.Is(err, eventbus.ErrFull) {
		return apierr.New(codes.Unavailable, "EVENT_BUS_UNAVAILABLE", "the event bus does not take events now").WithCause(err)
	}
	return err
}

// faultError maps a fault of an image to the error that its caller gets.
func faultError(err error) error {
	f := core.AsFault(err)
	if f == nil {
		return err
	}
	code := codes.FailedPrecondition
	switch f.Reason {
	case core.ReasonImageNotFound:
		code = codes.NotFound
	case core.ReasonRegistryNotAllowed:
		code = codes.PermissionDenied
	case core.ReasonInvalidReference:
		code = codes.InvalidArgument
	case core.ReasonRegistryUnavailable:
		code = codes.Unavailable
	}
	return apierr.New(code, f.Reason, f.Message).WithCause(err)
}
