package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/replay"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/wake"
)

// maxConflicts bounds how often a verdict is made again because another one of
// the same image was stored meanwhile.
const maxConflicts = 10

// Recorder stores verdicts and wakes whoever waits for them.
type Recorder struct {
	Store store.Store
	Hub   *wake.Hub

	propagator propagation.TextMapPropagator
	log        *slog.Logger
	verdicts   metric.Int64Counter
	conflicts  metric.Int64Counter
}

// NewRecorder returns a recorder.
func NewRecorder(s store.Store, hub *wake.Hub, t *obs.Telemetry) (*Recorder, error) {
	r := &Recorder{Store: s, Hub: hub, propagator: t.Propagator, log: t.Logger}
	var err error
	if r.verdicts, err = t.Meter().Int64Counter("seaworthy.verifier.verdicts",
		metric.WithDescription("Verdicts reached, by state and whether they say something new.")); err != nil {
		return nil, fmt.Errorf("counter: %w", err)
	}
	if r.conflicts, err = t.Meter().Int64Counter("seaworthy.verifier.conflicts",
		metric.WithDescription("Verdicts made again because another one of the image was stored meanwhile.")); err != nil {
		return nil, fmt.Errorf("counter: %w", err)
	}
	return r, nil
}

// latest returns the newest verdict of an image in its repository, or nil.
func (r *Recorder) latest(ctx context.Context, image imageref.Ref) (*store.Record, error) {
	found, err := r.Store.Lookup(ctx, []imageref.Ref{image}, time.Time{})
	if err != nil || found[0] == nil {
		return nil, err
	}
	return found[0].Latest, nil
}

// change is a verdict to store.
type change struct {
	replay.Judged
	// before is the newest verdict that the caller saw, nil for none.
	before *store.Record
	// cause is found from what the verdicts were made from if it is unspecified.
	cause   store.Cause
	reports map[string]time.Time
	// revision of the rules it was made by.
	revision int64
	// keepPending leaves a push that waits for a verdict waiting.
	keepPending bool
	// read is when reading the evidence from the registry began; zero if it is recorded
	// evidence.
	read time.Time
}

// save stores a verdict. The trace of ctx is kept with it.
func (r *Recorder) save(ctx context.Context, c change) error {
	v := c.Verdict
	m, err := verdictpb.FromCore(v)
	if err != nil {
		return err
	}
	after := int64(0)
	if c.before != nil {
		after = c.before.Sequence
	}
	if c.cause.Kind == core.CauseUnspecified {
		if c.cause, err = causeSince(c.before, m); err != nil {
			return err
		}
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
	r.propagator.Inject(ctx, carrier)
	headers, err := json.Marshal(carrier)
	if err != nil {
		return fmt.Errorf("encode trace context: %w", err)
	}
	saved, err := r.Store.Save(ctx, store.NewVerdict{
		Image: v.Image, State: v.State, Digest: m.GetDigest(), ChangeKey: key,
		TraceID: obs.TraceID(ctx), Headers: string(headers),
		CreateTime: v.EvaluateTime, ExpireTime: v.ExpireTime, Body: body,
		After: after, ReportTimes: c.reports, Cause: c.cause, Documents: c.Documents,
		Revision: c.revision, KeepPending: c.keepPending,
		ReadTime: c.read, LacksEvidence: lacksEvidence(v), Platforms: platformDigests(v),
	})
	if errors.Is(err, store.ErrConflict) {
		r.conflicts.Add(ctx, 1)
	}
	if err != nil {
		return err
	}
	r.verdicts.Add(ctx, 1, metric.WithAttributes(
		attribute.String("state", v.State.String()), attribute.Bool("changed", saved.Changed)))
	r.Hub.Notify()
	r.log.InfoContext(ctx, "verdict reached",
		"image", v.Image.String(), "state", v.State.String(), "previous_state", saved.Previous.String(),
		"changed", saved.Changed, "sequence", saved.Sequence, "verdict_digest", m.GetDigest())
	return nil
}

func platformDigests(v core.Verdict) []string {
	var out []string
	for i := range v.Platforms {
		out = append(out, v.Platforms[i].Digest)
	}
	return out
}

// same notes that a verdict was made again and says what it said.
func (r *Recorder) same(ctx context.Context, v core.Verdict) {
	r.verdicts.Add(ctx, 1, metric.WithAttributes(attribute.String("state", v.State.String()), attribute.Bool("changed", false)))
	r.log.DebugContext(ctx, "verdict made again says the same", "image", v.Image.String(), "state", v.State.String())
}

func causeSince(before *store.Record, after *verifierv1.Verdict) (store.Cause, error) {
	if before == nil {
		return causeOf(nil, after), nil
	}
	old, err := verdictpb.Decode(before.Body, before.Sequence, before.Digest, before.TraceID)
	if err != nil {
		return store.Cause{}, err
	}
	return causeOf(old, after), nil
}
