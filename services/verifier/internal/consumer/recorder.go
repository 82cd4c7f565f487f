package consumer

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/wake"
)

// maxConflicts bounds how often a verdict is made again because another one of
// the same image was stored meanwhile.
const maxConflicts = 10

// Recorder stores verdicts and wakes whoever waits for them.
type Recorder struct {
	Store      store.Store
	Propagator propagation.TextMapPropagator
	Hub        *wake.Hub
	Log        *slog.Logger
}

// latest returns the newest verdict of an image in its repository, or nil.
func (r *Recorder) latest(ctx context.Context, image imageref.Ref) (*store.Record, error) {
	images, err := r.Store.Images(ctx, image)
	if err != nil {
		return nil, err
	}
	if len(images) == 0 {
		return nil, nil
	}
	return images[0].Latest, nil
}

// save stores a verdict that was made after the caller saw the verdict with the
// sequence after. The trace of ctx is kept with it.
func (r *Recorder) save(ctx context.Context, v core.Verdict, after int64, reports map[string]time.Time) error {
	m, err := verdictpb.FromCore(v)
	if err != nil {
		return err
	}
	key, err := verdictpb.ChangeKey(m)
	if err != nil {
		return err
	}
	body, err := verdictpb.Encode(m)
	if err != nil {
		return err
	}
	carrier := propagation.MapCarrier{}
	r.Propagator.Inject(ctx, carrier)
	headers, err := json.Marshal(carrier)
	if err != nil {
		return fmt.Errorf("encode trace context: %w", err)
	}
	saved, err := r.Store.Save(ctx, store.NewVerdict{
		Image: v.Image, State: v.State, Digest: m.GetDigest(), ChangeKey: key,
		TraceID: obs.TraceID(ctx), Headers: string(headers),
		CreateTime: v.EvaluateTime, ExpireTime: v.ExpireTime, Body: body,
		After: after, ReportTimes: reports,
	})
	if err != nil {
		return err
	}
	r.Hub.Notify()
	r.Log.InfoContext(ctx, "verdict reached",
		"image", v.Image.String(), "state", v.State.String(), "previous_state", saved.Previous.String(),
		"changed", saved.Changed, "sequence", saved.Sequence, "verdict_digest", m.GetDigest())
	return nil
}
