package consumer_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/consumer"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const digest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"

// engine counts what it is asked for and fails as told.
type engine struct {
	store    *store.SQL
	scans    int
	resolved []imageref.Ref
	err      error
	// resolveErr is what Resolve fails with.
	resolveErr error
	// during is called while a scan runs.
	during func()
}

func (e *engine) Resolve(_ context.Context, ref imageref.Ref) (string, *core.Manifest, error) {
	e.resolved = append(e.resolved, ref)
	if e.resolveErr != nil {
		return digest, nil, e.resolveErr
	}
	if ref.Digest != "" {
		return ref.Digest, &core.Manifest{}, nil
	}
	return digest, &core.Manifest{}, nil
}

func (e *engine) Scan(ctx context.Context, _ imageref.Ref, d string, _ *core.Manifest) (*core.Result, error) {
	e.scans++
	if e.during != nil {
		e.during()
	}
	if e.err != nil {
		return nil, e.err
	}
	r, err := e.store.PutReport(ctx, store.StoredReport{Ref: core.ReportRef{ImageDigest: d, ReportDigest: "r" + d}, Content: []byte("{}")})
	return &core.Result{Digest: d, Reports: []core.ReportRef{r}}, err
}

type publisher struct {
	ids       []string
	referrers []*eventv1.ImageReferrerEvent
	err       error
}

func (p *publisher) PublishReferrer(_ context.Context, _ string, e *eventv1.ImageReferrerEvent) error {
	if p.err != nil {
		return p.err
	}
	p.referrers = append(p.referrers, e)
	return nil
}

func (p *publisher) Publish(_ context.Context, id string, _ *eventv1.ImageScannedEvent) error {
	if p.err != nil {
		return p.err
	}
	p.ids = append(p.ids, id)
	return nil
}

type fixture struct {
	*consumer.Scans
	store     *store.SQL
	engine    *engine
	publisher *publisher
	reasons   []string
	ignored   int
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.SQLite(t), "scanner")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context(), store.Migrations()); err != nil {
		t.Fatal(err)
	}
	s, err := store.New(db)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{store: s, engine: &engine{store: s}, publisher: &publisher{}}
	f.Scans = &consumer.Scans{
		Engine: f.engine, Store: s, Publisher: f.publisher, Log: slog.New(slog.DiscardHandler), Now: time.Now, MaxDeliver: 3,
		Done:    func(_ context.Context, _ time.Duration, reason string) { f.reasons = append(f.reasons, reason) },
		Ignored: func(context.Context) { f.ignored++ },
	}
	return f
}

var pushed = &eventv1.ImagePushedEvent{
	Meta:  &eventv1.EventMeta{EventId: "event"},
	Image: &typev1.ImageRef{Registry: "r.example", Repository: "a", Tag: "v1"},
}

func (f *fixture) deliver(t *testing.T, attempt int) error {
	t.Helper()
	return f.Handle(t.Context(), pushed, &eventbus.Delivery{Attempt: attempt})
}

func (f *fixture) state(t *testing.T) store.Scan {
	t.Helper()
	s, err := f.store.Scan(t.Context(), consumer.ScanID("event"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRedelivery: a crash between storing and publishing loses nothing and scans
// nothing twice.
func TestRedelivery(t *testing.T) {
	f := newFixture(t)
	f.publisher.err = eventbus.ErrUnavailable
	if err := f.deliver(t, 1); !errors.Is(err, eventbus.ErrUnavailable) || eventbus.IsPermanent(err) {
		t.Fatalf("bus down: %v", err)
	}
	f.publisher.err = nil
	for attempt := 2; attempt <= 3; attempt++ {
		if err := f.deliver(t, attempt); err != nil {
			t.Fatal(err)
		}
	}
	if f.engine.scans != 1 {
		t.Errorf("scanned %d times", f.engine.scans)
	}
	if len(f.publisher.ids) != 2 || f.publisher.ids[0] != f.publisher.ids[1] {
		t.Errorf("published %v, want one id twice", f.publisher.ids)
	}
	if s := f.state(t); s.State != store.Succeeded || s.Image.Digest != digest {
		t.Errorf("scan %+v", s)
	}
}

// TestTagIsResolvedOnce: a retry scans what the tag meant at the first attempt.
func TestTagIsResolvedOnce(t *testing.T) {
	f := newFixture(t)
	f.engine.err = core.NewTemporary(core.ReasonRegistryUnavailable, "down")
	if err := f.deliver(t, 1); err == nil || eventbus.IsPermanent(err) {
		t.Fatalf("registry down: %v", err)
	}
	if s := f.state(t); s.State != store.Running {
		t.Errorf("scan that will be tried again: %+v", s)
	}
	f.engine.err = nil
	if err := f.deliver(t, 2); err != nil {
		t.Fatal(err)
	}
	if got := f.engine.resolved; len(got) != 2 || got[0].Digest != "" || got[1].Digest != digest {
		t.Errorf("resolved %v", got)
	}
}

func TestFailures(t *testing.T) {
	for _, c := range []struct {
		name      string
		err       error
		attempt   int
		permanent bool
		state     store.State
		reason    string
	}{
		{"fault of the image", core.NewFault(core.ReasonLayerCorrupt, "bad"), 1, true, store.Failed, core.ReasonLayerCorrupt},
		{"registry down", core.NewTemporary(core.ReasonRegistryUnavailable, "down"), 2, false, store.Running, ""},
		{"registry down to the end", core.NewTemporary(core.ReasonRegistryUnavailable, "down"), 3, true, store.Failed, core.ReasonRegistryUnavailable},
		{"database down to the end", errors.New("secret"), 3, true, store.Failed, eventbus.ReasonInternal},
		{"too slow to the end", context.DeadlineExceeded, 3, true, store.Failed, eventbus.ReasonTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			f.engine.err = c.err
			err := f.deliver(t, c.attempt)
			if eventbus.IsPermanent(err) != c.permanent || c.permanent && eventbus.Reason(err) != c.reason {
				t.Errorf("error %v, reason %s", err, eventbus.Reason(err))
			}
			s := f.state(t)
			if s.State != c.state || s.ErrorReason != c.reason || s.ErrorMessage == "secret" {
				t.Errorf("scan %+v", s)
			}
			// A dead letter that is replayed is tried again.
			f.engine.err = nil
			if err := f.deliver(t, 1); err != nil || f.state(t).State != store.Succeeded {
				t.Errorf("replayed: %v, %+v", err, f.state(t))
			}
		})
	}
}

// TestStopAtTheLastAttempt: a restart of the scanner is no fault of the image.
func TestStopAtTheLastAttempt(t *testing.T) {
	f := newFixture(t)
	ctx, stop := context.WithCancel(t.Context())
	f.engine.during, f.engine.err = stop, context.Canceled
	if err := f.Handle(ctx, pushed, &eventbus.Delivery{Attempt: 3}); !errors.Is(err, context.Canceled) || eventbus.IsPermanent(err) {
		t.Errorf("%v", err)
	}
	if s := f.state(t); s.State != store.Running {
		t.Errorf("scan %+v", s)
	}
}

func TestMalformedReference(t *testing.T) {
	f := newFixture(t)
	err := f.Handle(t.Context(), &eventv1.ImagePushedEvent{Meta: &eventv1.EventMeta{EventId: "event"}}, &eventbus.Delivery{Attempt: 1})
	if !eventbus.IsPermanent(err) || eventbus.Reason(err) != core.ReasonInvalidReference {
		t.Errorf("%v", err)
	}
}

// TestEvidence: a push of evidence is acknowledged, counted, and makes no dead
// letter and no event.
func TestEvidence(t *testing.T) {
	f := newFixture(t)
	fault := core.NewFault(core.ReasonNotAnImage, "evidence")
	fault.Evidence = true
	f.engine.err = fault
	if err := f.deliver(t, 1); err != nil {
		t.Fatalf("not acknowledged: %v", err)
	}
	if f.ignored != 1 || len(f.publisher.ids) != 0 || len(f.reasons) != 0 {
		t.Errorf("ignored %d, published %v, scans %v", f.ignored, f.publisher.ids, f.reasons)
	}
	if s := f.state(t); s.State != store.Failed || s.ErrorReason != core.ReasonNotAnImage {
		t.Errorf("scan %+v", s)
	}
	if len(f.publisher.referrers) != 0 {
		t.Errorf("hints about nothing: %v", f.publisher.referrers)
	}
}

// TestReferrer: a push of evidence that names its image is a hint about that image.
func TestReferrer(t *testing.T) {
	f := newFixture(t)
	fault := core.NewFault(core.ReasonNotAnImage, "evidence")
	fault.Evidence, fault.Subject = true, "sha256:"+strings.Repeat("5e", 32)
	f.engine.resolveErr = fault
	f.publisher.err = eventbus.ErrUnavailable
	if err := f.deliver(t, 1); !errors.Is(err, eventbus.ErrUnavailable) || eventbus.IsPermanent(err) {
		t.Fatalf("a hint that is not stored must be tried again: %v", err)
	}
	f.publisher.err = nil
	if err := f.deliver(t, 2); err != nil || f.ignored != 1 {
		t.Fatalf("not acknowledged: %v, ignored %d", err, f.ignored)
	}
	if len(f.publisher.referrers) != 1 {
		t.Fatalf("hints: %v", f.publisher.referrers)
	}
	if e := f.publisher.referrers[0]; e.GetImage().GetDigest() != fault.Subject || e.GetImage().GetRepository() != "a" || e.GetImage().GetTag() != "" {
		t.Errorf("hint: %v", e)
	}
}

// TestUsedUpID: ids of pushes to come can be foreseen. Who publishes one of them for
// another image, or another digest, does not keep the image from being scanned.
func TestUsedUpID(t *testing.T) {
	other := "sha256:" + strings.Repeat("2", 64)
	for name, forged := range map[string]*typev1.ImageRef{
		"another image":    {Registry: "r.example", Repository: "b", Tag: "v1"},
		"another tag":      {Registry: "r.example", Repository: "a", Tag: "v2"},
		"another digest":   {Registry: "r.example", Repository: "a", Tag: "v1", Digest: other},
		"no tag":           {Registry: "r.example", Repository: "a", Digest: digest},
		"another registry": {Registry: "x.example", Repository: "a", Tag: "v1", Digest: digest},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			image := &typev1.ImageRef{Registry: "r.example", Repository: "a", Tag: "v1", Digest: digest}
			for _, i := range []*typev1.ImageRef{forged, image, image} { // the last is a redelivery
				e := &eventv1.ImagePushedEvent{Meta: pushed.GetMeta(), Image: i}
				if err := f.Handle(t.Context(), e, &eventbus.Delivery{Attempt: 1}); err != nil {
					t.Fatal(err)
				}
			}
			if f.engine.scans != 2 || len(f.publisher.ids) != 3 || f.publisher.ids[0] == f.publisher.ids[1] || f.publisher.ids[1] != f.publisher.ids[2] {
				t.Errorf("%d scans, published %v", f.engine.scans, f.publisher.ids)
			}
			if last := f.engine.resolved[len(f.engine.resolved)-1]; last.Repository != "a" || last.Tag != "v1" || last.Digest != digest {
				t.Errorf("scanned %s", last)
			}
		})
	}
}
