package server

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
)

const (
	// heartbeatEvery is well within the promised 30 seconds.
	heartbeatEvery = 15 * time.Second
	// watchBatch is the number of changes read at once.
	watchBatch = 200
)

// ReasonCursorUnknown is the reason of a cursor that no change has yet.
const ReasonCursorUnknown = "CURSOR_UNKNOWN"

// WatchVerdicts implements VerdictService. Sequences become visible in their
// order and without gaps, so reading on after a cursor misses nothing, on
// whichever replica.
func (s *Verdicts) WatchVerdicts(req *verifierv1.WatchVerdictsRequest, stream grpc.ServerStreamingServer[verifierv1.WatchVerdictsResponse]) error {
	ctx := stream.Context()
	cursor, err := s.start(ctx, req.GetCursor())
	if err != nil {
		return err
	}
	if err := s.heartbeat(stream, cursor); err != nil {
		return err
	}
	beat := time.NewTicker(heartbeatEvery)
	defer beat.Stop()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for {
		changed := s.hub.Changed()
		if cursor, err = s.send(stream, cursor); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-poll.C:
		case <-beat.C:
			if err := s.heartbeat(stream, cursor); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Verdicts) start(ctx context.Context, cursor int64) (int64, error) {
	last, err := s.store.LastSequence(ctx)
	if err != nil {
		return 0, err
	}
	switch {
	case cursor == -1:
		return last, nil
	case cursor < -1:
		return 0, apierr.InvalidField("cursor", "must be -1, 0 or a cursor of an earlier message")
	case cursor > last:
		return 0, apierr.New(codes.OutOfRange, ReasonCursorUnknown, fmt.Sprintf("cursor %d is of no change yet; the newest is %d", cursor, last))
	default:
		return cursor, nil
	}
}

// send sends every change after the cursor and returns the new one.
func (s *Verdicts) send(stream grpc.ServerStreamingServer[verifierv1.WatchVerdictsResponse], cursor int64) (int64, error) {
	for {
		records, err := s.store.Changes(stream.Context(), cursor, watchBatch)
		if err != nil {
			return cursor, err
		}
		for i := range records {
			v, err := served(&records[i], "", s.now())
			if err != nil {
				return cursor, err
			}
			// Whoever hears of a change and asks must not hear of the time before.
			s.cache.Forget(records[i].Image.Digest)
			err = stream.Send(&verifierv1.WatchVerdictsResponse{
				Verdict:       v,
				PreviousState: verifierv1.Verdict_State(records[i].PreviousState),
				Cursor:        records[i].Sequence,
				SendTime:      timestamppb.New(s.now()),
			})
			if err != nil {
				return cursor, err
			}
			cursor = records[i].Sequence
		}
		if len(records) < watchBatch {
			return cursor, nil
		}
	}
}

func (s *Verdicts) heartbeat(stream grpc.ServerStreamingServer[verifierv1.WatchVerdictsResponse], cursor int64) error {
	return stream.Send(&verifierv1.WatchVerdictsResponse{Cursor: cursor, SendTime: timestamppb.New(s.now())})
}
