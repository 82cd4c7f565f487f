package sigstore

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/sigstore/rekor/pkg/generated/client/entries"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/guard"
)

// judgeSize says what to do if a Rekor v1 refused a statement for its size.
func judgeSize(err error) error {
	refusal := new(entries.CreateLogEntryDefault)
	if !errors.As(err, &refusal) || refusal.Code() != http.StatusRequestEntityTooLarge {
		return err
	}
	return guard.Permanent(fmt.Errorf("%w for the transparency log, a Rekor v1, which takes in whole statements: raise its max_request_body_size, "+
		"name one of version 2 in sigstore.signing_config, or leave log out of the identity's witnesses: %w", attest.ErrTooLarge, err))
}
