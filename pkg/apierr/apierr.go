// Package apierr is the one error type of Seaworthy's APIs.
//
// An [Error] has two sides. The public side (code, reason, message, metadata,
// field violations, retry delay) travels to the caller as a gRPC status with
// google.rpc details and comes back as an equal Error through [From]. The
// private side is the cause: it is logged by the service that made it and is
// never sent. Errors of any other type become INTERNAL with a fixed text, so
// that nothing leaks by accident.
package apierr

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
)

// Domain is the google.rpc.ErrorInfo domain of every reason this package sends.
const Domain = "seaworthy.dev"

// Reasons that the package itself gives. Services add their own, in UPPER_SNAKE.
const (
	// ReasonInternal marks an error nobody classified; its text is masked.
	ReasonInternal = "INTERNAL"
	// ReasonInvalidArgument marks a request field that breaks its contract.
	ReasonInvalidArgument = "INVALID_ARGUMENT"
	// ReasonDeadlineExceeded marks work that ran out of the caller's time.
	ReasonDeadlineExceeded = "DEADLINE_EXCEEDED"
	// ReasonCanceled marks work whose caller went away.
	ReasonCanceled = "CANCELED"
)

// Violation is one request field that breaks its contract.
type Violation struct {
	// Field is the path of the field, in proto names: "image.digest".
	Field string
	// Description says what is wrong with it, in words for the caller.
	Description string
}

// Error is a failure with a public and a private side. It is immutable: the
// With methods return copies, so package-level Errors are safe to share.
type Error struct {
	code       codes.Code
	reason     string
	message    string
	metadata   map[string]string
	violations []Violation
	retryAfter time.Duration
	cause      error
}

// New makes an Error. The reason is UPPER_SNAKE and part of the API; the
// message is for people and may change. A code of OK is a programming error
// and becomes INTERNAL.
func New(code codes.Code, reason, message string) *Error {
	if code == codes.OK {
		code = codes.Internal
	}
	return &Error{code: code, reason: reason, message: message}
}

// Newf is New with a formatted message. It does not wrap: a cause is private
// and is added with WithCause.
func Newf(code codes.Code, reason, format string, args ...any) *Error {
	return New(code, reason, fmt.Sprintf(format, args...))
}

// InvalidField says that one request field breaks its contract:
// INVALID_ARGUMENT with a BadRequest field violation.
func InvalidField(field, description string) *Error {
	e := New(codes.InvalidArgument, ReasonInvalidArgument, field+": "+description)
	e.violations = []Violation{{Field: field, Description: description}}
	return e
}

// WithCause returns a copy that wraps err. The cause reaches errors.Is, Error
// and the log, never the caller.
func (e *Error) WithCause(err error) *Error {
	c := *e
	c.cause = err
	return &c
}

// WithMetadata returns a copy with one more ErrorInfo metadata entry, for
// machine-readable facts about the failure.
func (e *Error) WithMetadata(k, v string) *Error {
	c := *e
	c.metadata = maps.Clone(e.metadata)
	if c.metadata == nil {
		c.metadata = map[string]string{}
	}
	c.metadata[k] = v
	return &c
}

// WithRetryAfter returns a copy that asks the caller to wait d before trying again.
func (e *Error) WithRetryAfter(d time.Duration) *Error {
	c := *e
	c.retryAfter = d
	return &c
}

// WithViolation returns a copy that names one more field at fault.
func (e *Error) WithViolation(field, description string) *Error {
	c := *e
	c.violations = append(slices.Clone(e.violations), Violation{Field: field, Description: description})
	return &c
}

// Code is the gRPC code, never OK.
func (e *Error) Code() codes.Code { return e.code }

// Reason is the stable machine-readable reason, UPPER_SNAKE.
func (e *Error) Reason() string { return e.reason }

// Message is the public text.
func (e *Error) Message() string { return e.message }

// Metadata returns a copy of the machine-readable facts; nil if there are none.
func (e *Error) Metadata() map[string]string { return maps.Clone(e.metadata) }

// RetryAfter is how long the caller should wait; 0 = not said.
func (e *Error) RetryAfter() time.Duration { return e.retryAfter }

// Violations returns a copy of the fields at fault.
func (e *Error) Violations() []Violation { return slices.Clone(e.violations) }

// Error is the text for logs: reason, public message and private cause.
func (e *Error) Error() string {
	s := e.reason + ": " + e.message
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap returns the private cause.
func (e *Error) Unwrap() error { return e.cause }

// From finds the Error in err: one in its chain, one rebuilt from a gRPC
// status in its chain, or one for a context error. Any other error becomes
// INTERNAL with a fixed message and err as its cause. From(nil) is nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok && e != nil {
		return e
	}
	if e := fromStatus(err); e != nil {
		return e
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return New(codes.DeadlineExceeded, ReasonDeadlineExceeded, "the deadline passed before the work was done").WithCause(err)
	case errors.Is(err, context.Canceled):
		return New(codes.Canceled, ReasonCanceled, "the request was canceled").WithCause(err)
	}
	return New(codes.Internal, ReasonInternal, "internal error").WithCause(err)
}

// HasReason reports whether err, seen through From, has the reason.
func HasReason(err error, reason string) bool {
	e := From(err)
	return e != nil && e.reason == reason
}
