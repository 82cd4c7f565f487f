package eventbus

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Errors of Publish and the reading calls.
var (
	// ErrUnavailable says that NATS or the stream could not be reached in time.
	// The message may have been stored nevertheless; publishing it again with
	// the same id is harmless.
	ErrUnavailable = errors.New("event bus is unavailable")
	// ErrFull says that the stream refuses messages until its consumers have
	// caught up.
	ErrFull = errors.New("stream is full")
	// ErrTooLarge says that the message is larger than its stream allows.
	ErrTooLarge = errors.New("message is too large")
	// ErrNotAllowed says that the topology does not let this service publish to
	// the subject or consume as the durable.
	ErrNotAllowed = errors.New("not allowed by the topology")
	// ErrNotFound says that the stream holds no such message.
	ErrNotFound = errors.New("message not found")
)

// Reasons that the bus itself gives; handlers give their own with Permanent.
const (
	// ReasonInternal is an error that names no reason.
	ReasonInternal = "INTERNAL"
	// ReasonTimeout is a handler that ran into its time limit.
	ReasonTimeout = "TIMEOUT"
	// ReasonPanic is a handler that panicked.
	ReasonPanic = "PANIC"
	// ReasonAttemptsExhausted is a message that was delivered more often than
	// its consumer allows and never got an answer, for example because it kills
	// the process that handles it.
	ReasonAttemptsExhausted = "ATTEMPTS_EXHAUSTED"
)

type permanentError struct {
	reason string
	err    error
}

func (e *permanentError) Error() string  { return e.reason + ": " + e.err.Error() }
func (e *permanentError) Unwrap() error  { return e.err }
func (e *permanentError) Reason() string { return e.reason }

// Permanent marks an error that no retry can fix: the message goes to its dead
// letter at once. reason is UPPER_SNAKE_CASE, for example "IMAGE_NOT_FOUND". A
// nil err stays nil.
func Permanent(reason string, err error) error {
	if err == nil {
		return nil
	}
	if reason == "" {
		reason = ReasonInternal
	}
	return &permanentError{reason: reason, err: err}
}

// IsPermanent says whether err, or an error that it wraps, came from Permanent.
func IsPermanent(err error) bool {
	var p *permanentError
	return errors.As(err, &p)
}

// Reason returns the reason of an error in UPPER_SNAKE_CASE: the one given to
// Permanent, else that of an error in the chain with a method Reason() string
// (such as apierr.Error), else ReasonTimeout or ReasonInternal. It is "" for nil.
func Reason(err error) string {
	if err == nil {
		return ""
	}
	var p *permanentError
	if errors.As(err, &p) {
		return p.reason
	}
	var r interface{ Reason() string }
	if errors.As(err, &r) && r.Reason() != "" {
		return r.Reason()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return ReasonTimeout
	}
	return ReasonInternal
}

type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string  { return fmt.Sprintf("handler panicked: %v", e.value) }
func (e *panicError) Reason() string { return ReasonPanic }

// Codes of JetStream API errors that nats.go has no names for; they are those
// of errors.json in nats-server.
const (
	codeAccountResources jetstream.ErrorCode = 10002
	codeResources        jetstream.ErrorCode = 10023
	codeMemoryResources  jetstream.ErrorCode = 10028
	codeStorageResources jetstream.ErrorCode = 10047
	codeMessageTooLarge  jetstream.ErrorCode = 10054
	codeStoreFailed      jetstream.ErrorCode = 10077
)

// publishError maps what JetStream or the connection said to the package's
// errors and keeps the cause.
func publishError(err error) error {
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	var api *jetstream.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode {
		case codeMessageTooLarge:
			return fmt.Errorf("%w: %w", ErrTooLarge, err)
		case codeAccountResources, codeResources, codeMemoryResources, codeStorageResources:
			return fmt.Errorf("%w: %w", ErrFull, err)
		case codeStoreFailed:
			// One code for all failures of the store; only its text tells a
			// full stream ("maximum bytes exceeded") from a broken disk.
			if strings.Contains(api.Description, "maximum") {
				return fmt.Errorf("%w: %w", ErrFull, err)
			}
		default:
		}
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
