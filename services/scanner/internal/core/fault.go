package core

import (
	"errors"
	"fmt"
)

// Reasons of faults. They travel in dead letters, in scans and in gRPC errors.
const (
	ReasonImageNotFound        = "IMAGE_NOT_FOUND"
	ReasonNotAnImage           = "NOT_AN_IMAGE"
	ReasonInvalidReference     = "INVALID_REFERENCE"
	ReasonLayerCorrupt         = "LAYER_CORRUPT"
	ReasonLimitExceeded        = "LIMIT_EXCEEDED"
	ReasonRegistryNotAllowed   = "REGISTRY_NOT_ALLOWED"
	ReasonRegistryUnauthorized = "REGISTRY_UNAUTHORIZED"
	ReasonRegistryUnavailable  = "REGISTRY_UNAVAILABLE"
	ReasonNoSnapshot           = "NO_SNAPSHOT"
)

// FaultError says why an image could not be scanned. A fault that is not temporary is
// a fault of the image or of the configuration: trying again cannot help.
type FaultError struct {
	// Reason is UPPER_SNAKE_CASE.
	Reason string
	// Message is for people and safe to show to callers.
	Message   string
	Temporary bool
	// Evidence marks the reason NOT_AN_IMAGE of what is evidence about an image:
	// there is nothing to scan, and nothing is wrong.
	Evidence bool
	// Subject is the digest that the evidence refers to, if it names one.
	Subject string
	// Artifact marks the reason NOT_AN_IMAGE of a manifest whose configuration is not
	// that of an image, so that no runtime runs it.
	Artifact bool
	cause    error
}

// NewFault returns a permanent fault.
func NewFault(reason, format string, args ...any) *FaultError {
	return &FaultError{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// NewTemporary returns a fault that may be gone at the next try.
func NewTemporary(reason, format string, args ...any) *FaultError {
	f := NewFault(reason, format, args...)
	f.Temporary = true
	return f
}

// WithCause returns a copy that carries the error behind the fault, for logs.
func (f *FaultError) WithCause(err error) *FaultError {
	c := *f
	c.cause = err
	return &c
}

// Error returns the message and the cause.
func (f *FaultError) Error() string {
	if f.cause != nil {
		return f.Message + ": " + f.cause.Error()
	}
	return f.Message
}

// Unwrap returns the cause.
func (f *FaultError) Unwrap() error { return f.cause }

// AsFault returns the fault in the chain of err, or nil.
func AsFault(err error) *FaultError {
	var f *FaultError
	if errors.As(err, &f) {
		return f
	}
	return nil
}
