package consumer

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/evidence"
)

// Reasons of the signer's dead letters. All others are of errors that were tried
// again until the attempts ran out.
const (
	// ReasonInvalidEvent: the event itself makes no sense.
	ReasonInvalidEvent = "INVALID_EVENT"
	// ReasonScanNotFound: the scanner does not know the scan.
	ReasonScanNotFound = "SCAN_NOT_FOUND"
	// ReasonReportMismatch: the scanner gave something else than the event names.
	ReasonReportMismatch = "REPORT_MISMATCH"
	// ReasonReportInvalid: report or bill of materials cannot be attested.
	ReasonReportInvalid = "REPORT_INVALID"
	// ReasonVerdictMismatch: the verdict's content is not what its digest says.
	ReasonVerdictMismatch = "VERDICT_MISMATCH"
	// ReasonVerdictInvalid: no verification summary can be made of the verdict.
	ReasonVerdictInvalid = "VERDICT_INVALID"
	// ReasonTooLarge: a report, a document, an attestation or the list of
	// referrers is over a limit.
	ReasonTooLarge = "EVIDENCE_TOO_LARGE"
	// ReasonImageNotFound: the image is no longer in the registry.
	ReasonImageNotFound = "IMAGE_NOT_FOUND"
	// ReasonRegistryNotAllowed: the registry is not in the signer's configuration.
	ReasonRegistryNotAllowed = "REGISTRY_NOT_ALLOWED"
	// ReasonRegistryDenied: the registry refused our credentials or rights.
	ReasonRegistryDenied = "REGISTRY_DENIED"
	// ReasonRegistryRejected: the registry refuses such content for good.
	ReasonRegistryRejected = "REGISTRY_REJECTED"
)

// permanent is an error that knows its reason before it reaches the handler.
type permanent struct {
	reason string
	err    error
}

func (e *permanent) Error() string { return e.err.Error() }
func (e *permanent) Unwrap() error { return e.err }

// refusal is of a registry that let the signer in before. It is tried again, because
// credentials may be in the middle of a change. The dead letter after the last attempt
// says that the registry refused.
type refusal struct{ err error }

func (e *refusal) Error() string  { return e.err.Error() }
func (e *refusal) Unwrap() error  { return e.err }
func (e *refusal) Reason() string { return ReasonRegistryDenied }

const adviceDenied = "give the signer credentials that may push to the repository, then replay this message"

// fault marks the errors that no retry can fix and says what an operator can do.
func fault(err error) error {
	if p := new(permanent); errors.As(err, &p) {
		return eventbus.Permanent(p.reason, err)
	}
	if registry.Temporary(err) {
		if errors.Is(err, registry.ErrUnauthorized) {
			return &refusal{err: fmt.Errorf("%w: %s", err, adviceDenied)}
		}
		return err
	}
	switch {
	case errors.Is(err, registry.ErrNotAllowed):
		return eventbus.Permanent(ReasonRegistryNotAllowed,
			fmt.Errorf("%w: add the registry to registry.registries of the signer, then replay this message", err))
	case errors.Is(err, registry.ErrUnauthorized):
		return eventbus.Permanent(ReasonRegistryDenied,
			fmt.Errorf("%w: %s", err, adviceDenied))
	case errors.Is(err, evidence.ErrNoSubject):
		return eventbus.Permanent(ReasonImageNotFound, err)
	case errors.Is(err, registry.ErrInvalidReference):
		return eventbus.Permanent(ReasonInvalidEvent, err)
	case errors.Is(err, registry.ErrRejected):
		return eventbus.Permanent(ReasonRegistryRejected,
			fmt.Errorf("%w: have the registry take pushes to the repository, then replay this message", err))
	case errors.Is(err, attest.ErrTooLarge), errors.Is(err, registry.ErrTooLarge):
		return eventbus.Permanent(ReasonTooLarge, err)
	}
	return err
}

// scannerFault gives an error of the scanner its reason.
func scannerFault(what string, err error) error {
	wrapped := fmt.Errorf("%s: %w", what, err)
	switch apierr.From(err).Code() {
	case codes.NotFound:
		return &permanent{reason: ReasonScanNotFound, err: wrapped}
	case codes.InvalidArgument:
		return &permanent{reason: ReasonInvalidEvent, err: wrapped}
	case codes.ResourceExhausted:
		return &permanent{reason: ReasonTooLarge, err: fmt.Errorf("%w: raise max_report if that is right", wrapped)}
	default:
		return wrapped
	}
}
