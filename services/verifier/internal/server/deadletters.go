package server

import (
	"context"
	"fmt"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/page"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

// ReasonDeadLetterNotFound is the reason of a sequence that no dead letter has.
const ReasonDeadLetterNotFound = "DEAD_LETTER_NOT_FOUND"

// A letter has up to 384 KiB: a page is bounded by its bytes too.
const (
	maxLetters      = 100
	maxLettersBytes = 4 << 20
)

// DeadLetters implements DeadLetterService.
type DeadLetters struct {
	verifierv1.UnimplementedDeadLetterServiceServer

	store store.Store
}

// NewDeadLetters returns the service.
func NewDeadLetters(s store.Store) *DeadLetters { return &DeadLetters{store: s} }

// ListDeadLetters implements DeadLetterService.
func (s *DeadLetters) ListDeadLetters(ctx context.Context, req *verifierv1.ListDeadLettersRequest) (*verifierv1.ListDeadLettersResponse, error) {
	size, err := page.CheckSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	size = min(size, maxLetters)
	list := fmt.Sprintf("dead letters %q %q", req.GetService(), req.GetReason())
	key, err := page.Decode(list, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	from := req.GetFromSequence()
	if key != "" {
		if from, err = strconv.ParseInt(key, 10, 64); err != nil {
			return nil, apierr.InvalidField("page_token", "is not a token of this list")
		}
	}
	all, err := s.store.DeadLetters(ctx, store.DeadLetterQuery{
		From: from, Service: req.GetService(), Reason: req.GetReason(), Limit: size + 1, Bytes: maxLettersBytes,
	})
	if err != nil {
		return nil, err
	}
	out := &verifierv1.ListDeadLettersResponse{}
	bytes := 0
	for i, l := range all {
		if i == size {
			break
		}
		m, err := deadLetterMessage(l)
		if err != nil {
			return nil, err
		}
		out.DeadLetters = append(out.DeadLetters, m)
		bytes += len(l.Body)
	}
	if len(all) > size || bytes >= maxLettersBytes {
		out.NextPageToken = page.Encode(list, strconv.FormatInt(all[len(out.GetDeadLetters())-1].Sequence+1, 10))
	}
	return out, nil
}

// GetDeadLetter implements DeadLetterService.
func (s *DeadLetters) GetDeadLetter(ctx context.Context, req *verifierv1.GetDeadLetterRequest) (*verifierv1.GetDeadLetterResponse, error) {
	all, err := s.store.DeadLetters(ctx, store.DeadLetterQuery{From: req.GetSequence(), Limit: 1, Bytes: 1})
	if err != nil {
		return nil, err
	}
	if len(all) == 0 || all[0].Sequence != req.GetSequence() {
		return nil, apierr.Newf(codes.NotFound, ReasonDeadLetterNotFound, "there is no dead letter %d", req.GetSequence())
	}
	m, err := deadLetterMessage(all[0])
	if err != nil {
		return nil, err
	}
	return &verifierv1.GetDeadLetterResponse{DeadLetter: m}, nil
}

func deadLetterMessage(l store.DeadLetter) (*verifierv1.DeadLetter, error) {
	e := &eventv1.DeadLetterEvent{}
	if err := proto.Unmarshal(l.Body, e); err != nil {
		return nil, fmt.Errorf("decode dead letter %d: %w", l.Sequence, err)
	}
	return &verifierv1.DeadLetter{Sequence: l.Sequence, Event: e, Traceparent: l.Traceparent, StoreTime: timestamppb.New(l.StoreTime)}, nil
}
