package apierr

import (
	"errors"
	"maps"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// GRPCStatus is the public side as a gRPC status: ErrorInfo always, BadRequest
// and RetryInfo where they apply. gRPC servers call it on returned errors.
func (e *Error) GRPCStatus() *status.Status {
	st := status.New(e.code, e.message)
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{
		Reason: e.reason, Domain: Domain, Metadata: maps.Clone(e.metadata),
	}}
	if len(e.violations) > 0 {
		br := &errdetails.BadRequest{}
		for _, v := range e.violations {
			br.FieldViolations = append(br.FieldViolations,
				&errdetails.BadRequest_FieldViolation{Field: v.Field, Description: v.Description})
		}
		details = append(details, br)
	}
	if e.retryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.retryAfter)})
	}
	full, err := st.WithDetails(details...)
	if err != nil {
		// Only text that is not UTF-8 cannot be encoded; the code still says what matters.
		return status.New(e.code, "error text is not valid UTF-8")
	}
	return full
}

// fromStatus rebuilds an Error from a gRPC status in the chain, or returns nil.
// A status without our ErrorInfo keeps its code and gets the code's name as reason.
func fromStatus(err error) *Error {
	carrier, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err)
	if !ok {
		return nil
	}
	st := carrier.GRPCStatus()
	if st == nil || st.Code() == codes.OK {
		return nil
	}
	e := &Error{code: st.Code(), reason: codeReason(st.Code()), message: st.Message(), cause: causeOf(err, carrier)}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() != Domain {
				continue
			}
			e.reason = d.GetReason()
			if len(d.GetMetadata()) > 0 {
				e.metadata = maps.Clone(d.GetMetadata())
			}
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				e.violations = append(e.violations, Violation{Field: v.GetField(), Description: v.GetDescription()})
			}
		case *errdetails.RetryInfo:
			e.retryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	return e
}

// causeOf keeps the context that callers wrapped around a status; the bare
// status says nothing that the rebuilt Error does not say itself.
func causeOf(err, carrier error) error {
	if err.Error() == carrier.Error() {
		return nil
	}
	return err
}

func codeReason(c codes.Code) string {
	switch c {
	case codes.Canceled:
		return ReasonCanceled
	case codes.Unknown:
		return "UNKNOWN"
	case codes.InvalidArgument:
		return ReasonInvalidArgument
	case codes.DeadlineExceeded:
		return ReasonDeadlineExceeded
	case codes.NotFound:
		return "NOT_FOUND"
	case codes.AlreadyExists:
		return "ALREADY_EXISTS"
	case codes.PermissionDenied:
		return "PERMISSION_DENIED"
	case codes.ResourceExhausted:
		return "RESOURCE_EXHAUSTED"
	case codes.FailedPrecondition:
		return "FAILED_PRECONDITION"
	case codes.Aborted:
		return "ABORTED"
	case codes.OutOfRange:
		return "OUT_OF_RANGE"
	case codes.Unimplemented:
		return "UNIMPLEMENTED"
	case codes.Unavailable:
		return "UNAVAILABLE"
	case codes.DataLoss:
		return "DATA_LOSS"
	case codes.Unauthenticated:
		return "UNAUTHENTICATED"
	default:
		return ReasonInternal
	}
}
