package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// subscriber answers attempts and remembers them.
type subscriber struct {
	mu     sync.Mutex
	sent   []string
	answer func(id string, n int) core.Result
	hold   chan struct{}
	// renderErr is the error of Render.
	renderErr error
}

func (s *subscriber) Render(core.Notification) ([]byte, error) { return []byte("message"), s.renderErr }

func (s *subscriber) Deliver(ctx context.Context, m core.Notification, _ []byte) core.Result {
	s.mu.Lock()
	s.sent = append(s.sent, m.ID)
	n, hold := len(s.sent), s.hold
	s.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return core.Failed(ctx.Err())
		}
	}
	if s.answer == nil {
		return core.Result{Outcome: core.Delivered}
	}
	return s.answer(m.ID, n)
}

func (s *subscriber) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sent)
}

type letters struct {
	fail bool
	sent []store.Delivery
}

func (l *letters) Publish(_ context.Context, d store.Delivery) error {
	if l.fail {
		return errors.New("bus is down")
	}
	l.sent = append(l.sent, d)
	return nil
}

type fixture struct {
	*subscriber
	store   *store.SQL
	letters *letters
	now     time.Time
	worker  *Worker
}

var testConfig = Config{
	Schedule: core.Schedule{0, 10 * time.Second, 100 * time.Second},
	Workers:  4, PerSubscription: 2, Lease: time.Minute, Poll: time.Hour, Drain: 20 * time.Millisecond,
	Retention: 24 * time.Hour, OrphanAge: time.Hour,
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.SQLite(t), store.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context(), store.Migrations()); err != nil {
		t.Fatal(err)
	}
	f := &fixture{subscriber: &subscriber{}, store: store.New(db), letters: &letters{}, now: storetest.T0}
	f.worker = f.replica(t)
	return f
}

// delivery is one of storetest with an event that can be told.
func delivery(t *testing.T, event, subscription string) store.Delivery {
	t.Helper()
	d := storetest.Delivery(event, subscription)
	var err error
	d.Event, err = proto.Marshal(&eventv1.VerdictReachedEvent{
		Image: &typev1.ImageRef{Registry: "registry.example", Repository: "team/app", Digest: "sha256:" + strings.Repeat("a", 64)},
		State: eventv1.VerdictReachedEvent_STATE_FAIL,
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// replica is another worker on the same store: another process, or the next one.
func (f *fixture) replica(t *testing.T) *Worker {
	t.Helper()
	w, err := New(testConfig, Deps{
		Store: f.store, DeadLetters: f.letters, Telemetry: obs.Discard("notifier"),
		Subscriptions: []core.Subscription{{Name: "a", AddressHash: "hash a", Sink: f.subscriber}, {Name: "b", AddressHash: "hash b", Sink: f.subscriber}},
		Now:           func() time.Time { return f.now }, Jitter: func() float64 { return 0 },
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (f *fixture) add(t *testing.T, deliveries ...store.Delivery) {
	t.Helper()
	if _, err := f.store.Add(t.Context(), deliveries); err != nil {
		t.Fatal(err)
	}
}

// round runs one round of a worker and waits for its attempts.
func (f *fixture) round(t *testing.T, w *Worker) {
	t.Helper()
	w.round(t.Context(), t.Context())
	w.attempts.Wait()
}

func (f *fixture) get(t *testing.T, id string) store.Delivery {
	t.Helper()
	list, err := f.store.List(t.Context(), store.Query{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		if d.ID == id {
			return d
		}
	}
	t.Fatalf("no delivery %s", id)
	return store.Delivery{}
}

func TestWorker_retriesUntilDelivered(t *testing.T) {
	f := newFixture(t)
	d := delivery(t, "e1", "a")
	f.add(t, d)
	f.answer = func(_ string, n int) core.Result {
		return []core.Result{{}, {}, {Outcome: core.Delivered}}[n-1]
	}
	f.round(t, f.worker)
	f.round(t, f.worker) // not due yet
	f.now = f.now.Add(10 * time.Second)
	// Between the attempts the process is another one: nothing lives in memory.
	f.worker = f.replica(t)
	f.round(t, f.worker)
	if got := f.get(t, d.ID); got.State != store.StatePending || got.Attempts != 2 || !got.NextAttempt.Equal(f.now.Add(100*time.Second)) {
		t.Errorf("%+v", got)
	}
	f.now = f.now.Add(100 * time.Second)
	f.worker = f.replica(t)
	f.round(t, f.worker)
	if got := f.get(t, d.ID); got.State != store.StateDelivered || got.Attempts != 3 || f.count() != 3 {
		t.Errorf("%+v after %d attempts", got, f.count())
	}
	if diff := cmp.Diff([]string{d.ID, d.ID, d.ID}, f.sent); diff != "" {
		t.Error(diff)
	}
}

func TestWorker_endsInADeadLetter(t *testing.T) {
	f := newFixture(t)
	d := delivery(t, "e1", "a")
	f.add(t, d)
	f.answer = func(string, int) core.Result { return core.Result{Detail: "status 500"} }
	f.letters.fail = true
	for _, wait := range testConfig.Schedule {
		f.now = f.now.Add(wait)
		f.round(t, f.worker)
	}
	if got := f.get(t, d.ID); got.State != store.StateFailed || got.Attempts != 3 || got.GiveUpReason != core.ReasonExhausted {
		t.Fatalf("%+v", got)
	}
	f.round(t, f.worker)
	f.letters.fail = false // the dead letter is pending until the bus takes it
	f.round(t, f.worker)
	f.round(t, f.worker)
	if len(f.letters.sent) != 1 || f.letters.sent[0].ID != d.ID || f.letters.sent[0].LastError != "status 500" {
		t.Errorf("dead letters %+v", f.letters.sent)
	}
	if f.count() != 3 {
		t.Errorf("%d attempts", f.count())
	}
}

// A delivery that no attempt can cure ends at once.
func TestWorker_undeliverable(t *testing.T) {
	for name, breakIt := range map[string]func(f *fixture, d *store.Delivery){
		"event":   func(_ *fixture, d *store.Delivery) { d.Event = []byte{0xff} },
		"message": func(f *fixture, _ *store.Delivery) { f.renderErr = errors.New("too large") },
		"refused": func(f *fixture, _ *store.Delivery) {
			f.answer = func(string, int) core.Result { return core.Result{Outcome: core.Permanent, Detail: "refused"} }
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			d := delivery(t, "e1", "a")
			breakIt(f, &d)
			f.add(t, d)
			f.round(t, f.worker)
			if got := f.get(t, d.ID); got.State != store.StateFailed || got.GiveUpReason != core.ReasonPermanent || got.LastError == "" {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestWorker_killedWorkersLeaseExpires(t *testing.T) {
	f := newFixture(t)
	d := delivery(t, "e1", "a")
	f.add(t, d)
	// A worker that claimed and was killed.
	if _, err := f.store.Claim(t.Context(), "a", f.now, testConfig.Lease, "dead", 1); err != nil {
		t.Fatal(err)
	}
	f.now = f.now.Add(testConfig.Lease - time.Second)
	f.round(t, f.worker)
	if f.count() != 0 {
		t.Fatal("sent while the lease runs")
	}
	f.now = f.now.Add(time.Second)
	f.round(t, f.worker)
	if got := f.get(t, d.ID); got.State != store.StateDelivered || f.count() != 1 {
		t.Errorf("%+v", got)
	}
}

func TestWorker_gone(t *testing.T) {
	f := newFixture(t)
	later := delivery(t, "e2", "a")
	later.NextAttempt = f.now.Add(time.Hour)
	f.add(t, delivery(t, "e1", "a"), later, delivery(t, "e1", "b"))
	f.answer = func(id string, _ int) core.Result {
		if id == "dlv_e1_a" {
			return core.Result{Outcome: core.Gone}
		}
		return core.Result{Outcome: core.Delivered}
	}
	f.round(t, f.worker)
	f.add(t, delivery(t, "e3", "a")) // comes while the subscription is gone
	f.round(t, f.worker)
	f.round(t, f.worker)
	for _, id := range []string{"dlv_e1_a", "dlv_e2_a", "dlv_e3_a"} {
		if got := f.get(t, id); got.State != store.StateFailed || got.GiveUpReason != core.ReasonGone {
			t.Errorf("%+v", got)
		}
	}
	if f.get(t, "dlv_e1_b").State != store.StateDelivered || f.count() != 2 || len(f.letters.sent) != 3 {
		t.Errorf("%d attempts, %d dead letters", f.count(), len(f.letters.sent))
	}
	// With another address the subscription is another one.
	f.worker.subscriptions["a"].AddressHash = "another"
	f.add(t, delivery(t, "e4", "a"))
	f.round(t, f.worker)
	if got := f.get(t, "dlv_e4_a"); got.State != store.StateDelivered {
		t.Errorf("%+v", got)
	}
}

func TestWorker_retryAfterPausesTheSubscription(t *testing.T) {
	f := newFixture(t)
	f.add(t, delivery(t, "e1", "a"))
	f.answer = func(string, int) core.Result {
		return core.Result{RetryAfter: 30 * time.Second}
	}
	f.round(t, f.worker)
	if got := f.get(t, "dlv_e1_a"); !got.NextAttempt.Equal(f.now.Add(30 * time.Second)) {
		t.Errorf("next attempt in %v", got.NextAttempt.Sub(f.now))
	}
	f.answer = nil
	f.add(t, delivery(t, "e2", "a"), delivery(t, "e2", "b"))
	f.now = f.now.Add(29 * time.Second)
	f.round(t, f.worker)
	if diff := cmp.Diff([]string{"dlv_e1_a", "dlv_e2_b"}, f.sent); diff != "" {
		t.Error(diff)
	}
	f.now = f.now.Add(time.Second)
	f.round(t, f.worker)
	if f.count() != 4 {
		t.Errorf("%d attempts", f.count())
	}
}

func TestWorker_slowSubscriberLeavesRoom(t *testing.T) {
	f := newFixture(t)
	for i := range 5 {
		f.add(t, delivery(t, fmt.Sprint("e", i), "a"))
	}
	f.add(t, delivery(t, "e1", "b"))
	f.hold = make(chan struct{})
	f.worker.round(t.Context(), t.Context())
	f.worker.round(t.Context(), t.Context())
	f.worker.mu.Lock()
	got := fmt.Sprint(f.worker.inFlight, f.worker.total)
	f.worker.mu.Unlock()
	if got != "map[a:2 b:1] 3" {
		t.Errorf("in flight: %s", got)
	}
	close(f.hold)
	f.worker.attempts.Wait()
}

func TestWorker_removedSubscription(t *testing.T) {
	f := newFixture(t)
	f.add(t, delivery(t, "e1", "nobody"))
	f.round(t, f.worker)
	if got := f.get(t, "dlv_e1_nobody"); got.State != store.StatePending {
		t.Fatalf("%+v", got)
	}
	f.now = f.now.Add(testConfig.OrphanAge + time.Second)
	f.round(t, f.worker)
	f.round(t, f.worker)
	if got := f.get(t, "dlv_e1_nobody"); got.State != store.StateFailed || got.GiveUpReason != core.ReasonRemoved || len(f.letters.sent) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestWorker_purges(t *testing.T) {
	f := newFixture(t)
	f.add(t, delivery(t, "e1", "a"))
	f.round(t, f.worker)
	f.now = f.now.Add(testConfig.Retention + 2*purgeInterval)
	f.round(t, f.worker)
	if list, err := f.store.List(t.Context(), store.Query{Limit: 1}); err != nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestWorker_stopGivesBack(t *testing.T) {
	f := newFixture(t)
	f.hold = make(chan struct{})
	f.add(t, delivery(t, "e1", "a"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.worker.Run(ctx) }()
	for f.count() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// Due at once for whoever runs, not only after the lease.
	f.hold = nil
	f.round(t, f.replica(t))
	if got := f.get(t, "dlv_e1_a"); got.State != store.StateDelivered || got.Attempts != 1 {
		t.Errorf("%+v", got)
	}
}
