package webhook

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/buildinfo"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/egress"
)

// maxResponse is how much of a response is read, so that the connection can be used
// again. Nothing of it is kept: it could hold what the subscriber's network hides.
const maxResponse = 64 << 10

// Sink posts notifications to one URL.
type Sink struct {
	url     string
	signers []Signer
	client  *http.Client
	now     func() time.Time
}

var _ core.Sink = (*Sink)(nil)

var errUnsigned = errors.New("no key to sign notifications with")

// New returns a sink that signs every request with all signers, of which there must be
// at least one.
func New(url string, signers []Signer, client *http.Client, now func() time.Time) (*Sink, error) {
	if len(signers) == 0 {
		return nil, errUnsigned
	}
	return &Sink{url: url, signers: signers, client: client, now: now}, nil
}

// Deliver implements core.Sink. As Standard Webhooks has it, 2xx is success, 410 ends the
// subscription, and everything else is retried.
func (s *Sink) Deliver(ctx context.Context, n core.Notification, message []byte) core.Result {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(message))
	if err != nil {
		return core.Failed(egress.WithoutURL(err))
	}
	req.Header.Set("Content-Type", ContentType)
	req.Header.Set("User-Agent", "Seaworthy/"+buildinfo.Version())
	setHeaders(req.Header, s.signers, n.ID, s.now(), message)
	resp, err := s.client.Do(req)
	if err != nil {
		return core.Failed(egress.WithoutURL(err))
	}
	defer resp.Body.Close()
	// The body says nothing that we use; failing to read it does not matter either.
	_, _ = io.CopyN(io.Discard, resp.Body, maxResponse)
	return result(resp, s.now())
}

func result(resp *http.Response, now time.Time) core.Result {
	r := core.Result{
		Code: resp.StatusCode, Detail: "status " + strconv.Itoa(resp.StatusCode),
		RetryAfter: egress.RetryAfter(resp.Header, now),
	}
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode <= 299:
		return core.Result{Outcome: core.Delivered, Code: resp.StatusCode}
	case resp.StatusCode >= 300 && resp.StatusCode <= 399:
		r.Detail += "; redirects are not followed"
	case resp.StatusCode == http.StatusGone:
		r.Outcome = core.Gone
	}
	return r
}
