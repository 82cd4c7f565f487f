package sigstore

import (
	"context"
	"net/http"
	"sync/atomic"

	"github.com/seaworthy-dev/seaworthy/services/signer/internal/guard"
)

// call is one attempt at a service. The clients of sigstore-go for Fulcio and
// timestamps take no context to the request and give no status with an error;
// being their transport makes up for both.
type call struct {
	ctx    context.Context //nolint:containedctx // see above: it lives as long as the attempt
	base   http.RoundTripper
	status atomic.Int32
}

// RoundTrip implements http.RoundTripper.
func (c *call) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.base.RoundTrip(r.WithContext(c.ctx))
	if err == nil {
		c.status.Store(int32(resp.StatusCode))
	}
	return resp, err
}

// judge marks the errors that another attempt does not cure: the service
// understood and refused.
func (c *call) judge(err error) error {
	if err != nil && refused(int(c.status.Load())) {
		return guard.Permanent(err)
	}
	return err
}

func refused(status int) bool {
	return status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests
}
