package server

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/page"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/exception"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

// Reasons of errors.
const (
	ReasonExceptionExists   = "EXCEPTION_EXISTS"
	ReasonExceptionNotFound = "EXCEPTION_NOT_FOUND"
	ReasonExceptionFromFile = "EXCEPTION_FROM_FILE"
	ReasonTooManyExceptions = "TOO_MANY_EXCEPTIONS"
)

// maxRequestID is the length of a request's identity in bytes.
const maxRequestID = 100

// Exceptions implements ExceptionService.
type Exceptions struct {
	verifierv1.UnimplementedExceptionServiceServer

	store   store.Store
	auditor Auditor
}

// NewExceptions returns the service.
func NewExceptions(s store.Store, a Auditor) *Exceptions {
	return &Exceptions{store: s, auditor: a}
}

// CreateException implements ExceptionService.
func (s *Exceptions) CreateException(ctx context.Context, req *verifierv1.CreateExceptionRequest) (*verifierv1.CreateExceptionResponse, error) {
	if len(req.GetRequestId()) > maxRequestID {
		return nil, apierr.InvalidField("request_id", "must have at most 100 bytes")
	}
	m := req.GetException()
	e := exception.Exception{
		Name: m.GetName(), Target: m.GetTarget(), Repositories: m.GetRepositories(), ImageDigest: m.GetImageDigest(),
		Purl: m.GetPurl(), Owner: m.GetOwner(), Reason: m.GetReason(), Ticket: m.GetTicket(),
		Justification: m.GetJustification(),
	}
	if t := m.GetExpireTime(); t != nil {
		e.ExpireTime = t.AsTime()
	}
	if faults := e.Check(); len(faults) > 0 {
		return nil, invalid(faults)
	}
	if !s.auditor.Now().Before(e.ExpireTime) {
		return nil, apierr.InvalidField("exception.expire_time", "must be in the future")
	}
	body, _, err := e.Encode()
	if err != nil {
		return nil, err
	}
	stored, err := s.store.CreateException(ctx,
		store.Exception{Name: e.Name, RequestID: req.GetRequestId(), CreateTime: s.auditor.Now(), Body: body}, exception.MaxExceptions,
		store.Cause{Kind: core.CauseException, Detail: "exception " + e.Name + " for " + e.Target + " was created by " + e.Owner},
		s.auditor.By(ctx, verifierv1.ExceptionService_CreateException_FullMethodName))
	switch {
	case errors.Is(err, store.ErrExists):
		return nil, apierr.New(codes.AlreadyExists, ReasonExceptionExists, "there is an exception of that name").WithMetadata("name", e.Name)
	case errors.Is(err, store.ErrTooMany):
		return nil, apierr.Newf(codes.ResourceExhausted, ReasonTooManyExceptions, "there are %d exceptions; delete some that have ended", exception.MaxExceptions)
	case err != nil:
		return nil, err
	}
	out, err := exceptionMessage(stored)
	if err != nil {
		return nil, err
	}
	return &verifierv1.CreateExceptionResponse{Exception: out}, nil
}

// invalid reports every fault as a violation of its field.
func invalid(faults []exception.Fault) error {
	err := apierr.InvalidField("exception."+faults[0].Field, faults[0].Problem)
	for _, f := range faults[1:] {
		err = err.WithViolation("exception."+f.Field, f.Problem)
	}
	return err
}

// GetException implements ExceptionService.
func (s *Exceptions) GetException(ctx context.Context, req *verifierv1.GetExceptionRequest) (*verifierv1.GetExceptionResponse, error) {
	if req.GetName() == "" {
		return nil, apierr.InvalidField("name", "a name is needed")
	}
	e, err := s.store.Exception(ctx, req.GetName())
	if errors.Is(err, store.ErrNotFound) {
		return nil, noException(req.GetName())
	}
	if err != nil {
		return nil, err
	}
	out, err := exceptionMessage(e)
	if err != nil {
		return nil, err
	}
	return &verifierv1.GetExceptionResponse{Exception: out}, nil
}

// ListExceptions implements ExceptionService.
func (s *Exceptions) ListExceptions(ctx context.Context, req *verifierv1.ListExceptionsRequest) (*verifierv1.ListExceptionsResponse, error) {
	size, err := page.CheckSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := page.Decode("exceptions", req.GetPageToken())
	if err != nil {
		return nil, err
	}
	all, err := s.store.Exceptions(ctx, after, size+1)
	if err != nil {
		return nil, err
	}
	out := &verifierv1.ListExceptionsResponse{}
	for _, e := range all {
		m, err := exceptionMessage(e)
		if err != nil {
			return nil, err
		}
		out.Exceptions = append(out.Exceptions, m)
	}
	if fits := page.Fit(out.GetExceptions(), size); fits < len(all) {
		out.Exceptions = out.GetExceptions()[:fits]
		out.NextPageToken = page.Encode("exceptions", all[fits-1].Name)
	}
	return out, nil
}

// DeleteException implements ExceptionService.
func (s *Exceptions) DeleteException(ctx context.Context, req *verifierv1.DeleteExceptionRequest) (*verifierv1.DeleteExceptionResponse, error) {
	if req.GetName() == "" {
		return nil, apierr.InvalidField("name", "a name is needed")
	}
	err := s.store.DeleteException(ctx, req.GetName(),
		store.Cause{Kind: core.CauseException, Detail: "exception " + core.Truncate(req.GetName()) + " was deleted"},
		s.auditor.By(ctx, verifierv1.ExceptionService_DeleteException_FullMethodName))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, noException(req.GetName())
	case errors.Is(err, store.ErrFromFile):
		return nil, apierr.New(codes.FailedPrecondition, ReasonExceptionFromFile,
			"the exception comes from a file of the verifier; take it out there").WithMetadata("name", req.GetName())
	case err != nil:
		return nil, err
	}
	return &verifierv1.DeleteExceptionResponse{}, nil
}

func noException(name string) error {
	return apierr.New(codes.NotFound, ReasonExceptionNotFound, "no exception of that name").WithMetadata("name", name)
}

func exceptionMessage(stored store.Exception) (*verifierv1.Exception, error) {
	e, err := exception.Decode(stored.Body)
	if err != nil {
		return nil, err
	}
	_, digest, err := e.Encode()
	if err != nil {
		return nil, err
	}
	return &verifierv1.Exception{
		Name: e.Name, Target: e.Target, Repositories: e.Repositories, Purl: e.Purl, Owner: e.Owner, Reason: e.Reason,
		ExpireTime: timestamppb.New(e.ExpireTime), ImageDigest: e.ImageDigest, Ticket: e.Ticket, Digest: digest,
		CreateTime: timestamppb.New(stored.CreateTime), FromFile: stored.FromFile, Justification: e.Justification,
	}, nil
}
