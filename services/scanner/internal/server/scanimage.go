package server

import (
	"context"
	"crypto/rand"
	"errors"
	"regexp"
	"time"

	"google.golang.org/grpc/codes"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
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
	if wait := s.limits.reserve(grpcx.PeerID(ctx), s.Now()); wait > 0 {
		return nil, apierr.New(codes.ResourceExhausted, "TOO_MANY_SCANS", "too many scan requests from this caller").WithRetryAfter(wait)
	}
	digest, m, err := s.Resolver.Resolve(ctx, ref)
	if err != nil {
		return nil, faultError(err)
	}
	eventID := events.ID("scan-requested", grpcx.PeerID(ctx), requestID)
	asked := ref
	ref = ref.WithDigest(digest)
	if sc, ok, err := s.queued(ctx, consumer.ScanID(eventID), ref); err != nil {
		return nil, err
	} else if ok {
		out, err := s.message(ctx, sc, false)
		return &scannerv1.ScanImageResponse{Scan: out}, err
	}
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

// queuedAge is how old a queued scan may be to answer for another request: it is
// published by then, or its caller asks again.
const queuedAge = time.Minute

// queued returns the scan of the same tag and digest that has not started yet, so that
// many requests for one image are one scan. A repeated request keeps its own.
func (s *scanner) queued(ctx context.Context, id string, ref imageref.Ref) (sc store.Scan, ok bool, err error) {
	if _, err := s.Store.Scan(ctx, id); !errors.Is(err, store.ErrNotFound) {
		return store.Scan{}, false, err
	}
	sc, err = s.Store.NewestScan(ctx, ref, false)
	if errors.Is(err, store.ErrNotFound) {
		return store.Scan{}, false, nil
	}
	ok = sc.State == store.Queued && sc.Image == ref && s.Now().Sub(sc.CreateTime) < queuedAge
	return sc, ok, err
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
