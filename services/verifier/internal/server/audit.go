package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

// Auditor notes who asks for a change.
type Auditor struct {
	// Propagator writes the trace that the change belongs to.
	Propagator propagation.TextMapPropagator
	Now        func() time.Time
}

// By is the caller of the RPC that ctx is of, doing action.
func (a Auditor) By(ctx context.Context, action string) store.Audit {
	carrier := propagation.MapCarrier{}
	a.Propagator.Inject(ctx, carrier)
	headers, err := json.Marshal(carrier)
	if err != nil {
		headers = []byte("{}") // a map of texts always encodes
	}
	return store.Audit{ID: rand.Text(), Time: a.Now(), Actor: grpcx.PeerID(ctx), Action: action, Headers: string(headers)}
}
