package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/seaworthy-dev/seaworthy/pkg/obs"
)

// The kinds of failure; test with errors.Is.
var (
	// ErrNotAllowed: the registry is not in the configuration. No request was made.
	ErrNotAllowed = errors.New("registry is not allowed")
	// ErrInvalidReference: the reference or descriptor cannot be asked for. No request was made.
	ErrInvalidReference = errors.New("invalid reference")
	// ErrNotFound: the registry has no such repository, manifest or blob.
	ErrNotFound = errors.New("not found in the registry")
	// ErrUnauthorized: the registry refused our credentials (401) or our rights (403).
	ErrUnauthorized = errors.New("registry refused access")
	// ErrTooLarge: the answer is over a limit of ours.
	ErrTooLarge = errors.New("answer of the registry is too large")
	// ErrDigestMismatch: the content is not what its digest or size says.
	ErrDigestMismatch = errors.New("content does not match its digest")
	// ErrMalformed: the content cannot be understood.
	ErrMalformed = errors.New("answer of the registry is malformed")
	// ErrRejected: the registry refused the request for another lasting reason.
	ErrRejected = errors.New("registry rejected the request")
	// ErrUnavailable: the registry cannot be reached, is overloaded or failing; trying later may help.
	ErrUnavailable = errors.New("registry is unavailable")
)

// Error is a failed operation on a registry. errors.Is finds its kind.
type Error struct {
	// Op is what was tried, for example "get manifest".
	Op string
	// Where is the registry, repository and reference it was tried on.
	Where string
	// StatusCode is the HTTP status of the last answer, 0 without one.
	StatusCode int
	// Code and Message are the registry's own words, empty if it gave none.
	// Message is cut at 500 bytes.
	Code, Message string
	// RetryAfter is how long the registry asked us to wait, 0 if it did not.
	RetryAfter time.Duration

	kind, cause error
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %v", e.Op, e.Where, e.kind)
	if e.StatusCode != 0 {
		fmt.Fprintf(&b, " (status %d)", e.StatusCode)
	}
	if e.Code != "" || e.Message != "" {
		fmt.Fprintf(&b, ": %s", strings.TrimPrefix(e.Code+": "+e.Message, ": "))
	}
	if e.cause != nil {
		fmt.Fprintf(&b, ": %v", e.cause)
	}
	return b.String()
}

// Unwrap gives the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.cause == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.cause}
}

// Temporary says whether trying again later may help. An operation that was cut
// off by its context is temporary: nothing was learnt about the registry.
func Temporary(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

func kindOfStatus(status int) error {
	switch {
	case status == http.StatusNotFound:
		return ErrNotFound
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return ErrUnauthorized
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return ErrUnavailable
	default:
		return ErrRejected
	}
}

const (
	maxErrorBody    = 64 << 10
	maxErrorMessage = 500
)

// statusError makes an Error of an answer that is not a success and consumes its body.
func statusError(op, where string, resp *http.Response, now time.Time) *Error {
	e := &Error{
		Op: op, Where: where, StatusCode: resp.StatusCode,
		RetryAfter: parseRetryAfter(resp.Header.Get("Retry-After"), now),
		kind:       kindOfStatus(resp.StatusCode),
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil {
		return e
	}
	var answer struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &answer) == nil && len(answer.Errors) > 0 {
		e.Code, e.Message = clean(answer.Errors[0].Code), clean(answer.Errors[0].Message)
		return e
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		e.Message = clean(string(body))
	}
	return e
}

// transportError makes an Error of a request that got no answer of its own:
// the network failed, or signing in did.
func transportError(op, where string, err error, retryAfter time.Duration) *Error {
	e := &Error{Op: op, Where: where, RetryAfter: retryAfter, kind: ErrUnavailable, cause: obs.RedactError(err)}
	if errors.Is(err, errRedirect) {
		e.kind = ErrRejected
	}
	if signIn := new(transport.Error); errors.As(err, &signIn) {
		e.StatusCode, e.kind, e.cause = signIn.StatusCode, kindOfStatus(signIn.StatusCode), errSignIn
		if len(signIn.Errors) > 0 {
			e.Code, e.Message = clean(string(signIn.Errors[0].Code)), clean(signIn.Errors[0].Message)
		}
		if errors.Is(e, ErrNotFound) || errors.Is(e, ErrRejected) {
			// A token service or /v2/ that answers so is not one we can sign in to.
			e.kind = ErrUnauthorized
		}
	}
	return e
}

var errSignIn = errors.New("while signing in to the registry")

// clean makes a registry's words fit for one line of a log, and for everybody who is told
// why an image failed: a registry may repeat our credentials or a presigned URL.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	s = obs.Redact(strings.TrimSpace(s))
	if len(s) > maxErrorMessage {
		s = strings.ToValidUTF8(s[:maxErrorMessage], "") + "…"
	}
	return s
}
