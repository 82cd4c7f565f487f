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

// MaxTold bounds the images of which subscribers are told that they are UNKNOWN: of how
// many an hour whose evidence is overdue, and of how many at a time that cannot be judged
// by the rules in force. More is one condition for operators.
const MaxTold = 20

// Patience is how long a verdict may rest on evidence while a newer scan report says
// something else.
type Patience struct {
	// Overtaken counts once a report from a later scan was judged for another image.
	Overtaken time.Duration
	// Longest counts in any case.
	Longest time.Duration
}

// Recorder stores verdicts and wakes whoever waits for them.
type Recorder struct {
	Store    store.Store
	Hub      *wake.Hub
	Patience Patience

	propagator propagation.TextMapPropagator
	log        *slog.Logger
	verdicts   metric.Int64Counter
	conflicts  metric.Int64Counter
}

// NewRecorder returns a recorder.
func NewRecorder(s store.Store, hub *wake.Hub, patience Patience, t *obs.Telemetry) (*Recorder, error) {
	r := &Recorder{Store: s, Hub: hub, Patience: patience, propagator: t.Propagator, log: t.Logger}
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

// restsOn is the newest verdict that was made from evidence, or one that says that no
// evidence was ever made; an image that is gone or could not be judged in time rests on
// what is known of it from before. Nil is none, or one that cannot be read.
func (r *Recorder) restsOn(ctx context.Context, latest *store.Record) (*verifierv1.Verdict, error) {
	var out *verifierv1.Verdict
	err := r.earlier(ctx, latest, func(v *verifierv1.Verdict) (bool, error) {
		if len(v.GetPlatforms()) == 0 && wasJudged(v) {
			return false, nil
		}
		out = v
		return true, nil
	})
	return out, err
}

// earlier visits a verdict and those before it, newest first, until visit is done, one
// cannot be read, whose content must not be guessed from an older one, or there were many.
func (r *Recorder) earlier(ctx context.Context, latest *store.Record, visit func(*verifierv1.Verdict) (done bool, err error)) error {
	const page, pages = 20, 10
	if latest == nil {
		return nil
	}
	records := []store.Record{*latest}
	for range pages {
		for i := range records {
			l := &records[i]
			v, err := verdictpb.Decode(l.Body, l.Sequence, l.Digest, l.TraceID)
			if err != nil {
				return nil //nolint:nilerr // as said
			}
			if done, err := visit(v); done || err != nil {
				return err
			}
		}
		var err error
		records, err = r.Store.History(ctx, latest.Image, records[len(records)-1].Sequence, page)
		if err != nil || len(records) == 0 {
			return err
		}
	}
	return nil
}

// codeOf is the code of the first reason of a verdict; empty for a verdict without one.
func codeOf(v *verifierv1.Verdict) core.Code {
	if len(v.GetReasons()) == 0 {
		return ""
	}
	return core.Code(v.GetReasons()[0].GetCode())
}

// change is a verdict to store.
type change struct {
	replay.Judged
	// before is the newest verdict that the caller saw, nil for none.
	before *store.Record
	// cause is found from what the verdicts were made from if it is unspecified.
	cause   store.Cause
	reports map[string]time.Time
	// evidence is what the reports say that it was made from, nil unless they were read
	// for it.
	evidence map[string]store.Judged
	// overdue says that it is UNKNOWN because evidence is overdue, and quiet that
	// subscribers are not told.
	overdue, quiet bool
	// replace stores it also if it says what the one before says.
	replace bool
	// revision of the rules it was made by.
	revision int64
	// keepPending leaves a push that waits for a verdict waiting.
	keepPending bool
	// read is when reading the evidence from the registry began; zero if it is recorded
	// evidence.
	read time.Time
}

// save stores a verdict. The trace of ctx is kept with it. While the evidence of an
// image is overdue it is UNKNOWN, whatever the verdict is.
func (r *Recorder) save(ctx context.Context, c change) error {
	err := r.store(ctx, c)
	late, ok := errors.AsType[*store.OverdueError](err)
	if !ok {
		return err
	}
	return r.overdue(ctx, late.Waiting, c.Verdict.Image, c.before, c.Verdict.EvaluateTime)
}

// overdue stores that the evidence of an image is overdue. At most MaxTold images an
// hour are told of; more is one condition for operators.
func (r *Recorder) overdue(ctx context.Context, w store.Waiting, image imageref.Ref, before *store.Record, now time.Time) error {
	backlog, err := r.Store.Backlog(ctx, now, r.Patience.Overtaken)
	if err != nil {
		return err
	}
	message := fmt.Sprintf("a scan report of %s differs and was not judged by %s",
		w.FirstScan.UTC().Format(time.RFC3339), w.OverdueTime.UTC().Format(time.RFC3339))
	if w.Problem != "" {
		message = fmt.Sprintf("a step gave up on a scan report of %s, which was not judged: %s", w.FirstScan.UTC().Format(time.RFC3339), w.Problem)
	}
	return r.store(ctx, change{
		Judged: replay.Judged{Verdict: core.Unjudged(image, core.CodeEvidenceOverdue, message, now)},
		before: before, revision: store.AnyRevision, keepPending: w.Problem == "", overdue: true, quiet: backlog.Recent > MaxTold,
		cause: store.Cause{Kind: core.CauseOverdue, Detail: core.Truncate(message)},
	})
}

// store stores a verdict as it is.
func (r *Recorder) store(ctx context.Context, c change) error {
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
		if c.cause, err = r.causeSince(ctx, c.before, m); err != nil {
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
		Evidence: c.evidence, Overdue: c.overdue, Quiet: c.quiet, Replace: c.replace, Patience: r.Patience.Longest,
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
	r.log.DebugContext(ctx, "verdict unchanged after re-evaluation", "image", v.Image.String(), "state", v.State.String())
}

func (r *Recorder) causeSince(ctx context.Context, before *store.Record, after *verifierv1.Verdict) (store.Cause, error) {
	if before == nil {
		return causeOf(nil, after), nil
	}
	old, err := r.restsOn(ctx, before)
	if err != nil {
		return store.Cause{}, err
	}
	if old == nil {
		return store.Cause{Kind: core.CauseEvidence, Detail: "the evidence was read again"}, nil
	}
	return causeOf(old, after), nil
}
