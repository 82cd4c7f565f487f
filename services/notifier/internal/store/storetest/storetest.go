// Package storetest is the suite that a store of deliveries is accepted by.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/store"
)

// T0 is the time at which the suite starts.
var T0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const lease = time.Minute

// Delivery returns a delivery that is due at T0.
func Delivery(event, subscription string) store.Delivery {
	return store.Delivery{
		ID: "dlv_" + event + "_" + subscription, EventID: event, Subscription: subscription,
		ImageDigest: "sha256:" + event, TraceID: "trace-" + event, Traceparent: "00-parent",
		Event: []byte{0, 1, 0xff}, EventStream: "VERDICTS", EventSequence: 1 << 40,
		State: store.StatePending, NextAttempt: T0, CreateTime: T0,
	}
}

// Run runs the suite; each calls what it is given with an empty store, once for each
// engine.
func Run(t *testing.T, each func(t *testing.T, test func(t *testing.T, s store.Store))) {
	t.Helper()
	for name, f := range map[string]func(t *testing.T, s suite){
		"Add": addOnce, "Claim": claim, "ClaimConcurrently": claimConcurrently, "LeaseExpires": leaseExpires,
		"Finish": finish, "Release": release, "List": list, "Redeliver": redeliver, "RedeliverWhilePurged": redeliverWhilePurged, "Replay": replay,
		"Gone": gone, "GiveUp": giveUp, "DeadLetters": deadLetters, "Purge": purge,
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, s store.Store) {
				t.Helper()
				f(t, suite{s})
			})
		})
	}
}

type suite struct{ store.Store }

func (s suite) add(t *testing.T, deliveries ...store.Delivery) {
	t.Helper()
	if n, err := s.Add(t.Context(), deliveries); err != nil || n != len(deliveries) {
		t.Fatalf("added %d: %v", n, err)
	}
}

func (s suite) claim(t *testing.T, subscription string, now time.Time, token string) []store.Delivery {
	t.Helper()
	out, err := s.Claim(t.Context(), subscription, now, lease, token, 10)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (s suite) all(t *testing.T) map[string]store.Delivery {
	t.Helper()
	list, err := s.List(t.Context(), store.Query{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]store.Delivery{}
	for _, d := range list {
		out[d.ID] = d
	}
	return out
}

func (s suite) fail(t *testing.T, d store.Delivery, now time.Time) {
	t.Helper()
	a := store.Attempt{State: store.StateFailed, Error: "status 500", Status: 500, GiveUpReason: "EXHAUSTED"}
	if err := s.Finish(t.Context(), d, now, a); err != nil {
		t.Fatal(err)
	}
}

func ids(list []store.Delivery) []string {
	out := []string{}
	for _, d := range list {
		out = append(out, d.ID)
	}
	return out
}

func addOnce(t *testing.T, s suite) {
	t.Helper()
	d := Delivery("e1", "a")
	s.add(t, d, Delivery("e1", "b"))
	again := d
	again.ID, again.Event = "dlv_other", []byte("other")
	if n, err := s.Add(t.Context(), []store.Delivery{again, d, Delivery("e2", "a")}); err != nil || n != 1 {
		t.Fatalf("added %d: %v", n, err)
	}
	all := s.all(t)
	if diff := cmp.Diff(d, all[d.ID]); diff != "" || len(all) != 3 {
		t.Errorf("%d deliveries\n%s", len(all), diff)
	}
}

func claim(t *testing.T, s suite) {
	t.Helper()
	late, early := Delivery("e1", "a"), Delivery("e2", "a")
	early.NextAttempt = T0.Add(-time.Second)
	future := Delivery("e3", "a")
	future.NextAttempt = T0.Add(time.Second)
	s.add(t, late, early, future, Delivery("e1", "b"))

	due, err := s.DueSubscriptions(t.Context(), T0)
	if diff := cmp.Diff([]string{"a", "b"}, due); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	first, err := s.Claim(t.Context(), "a", T0, lease, "t1", 1)
	if err != nil || len(first) != 1 || first[0].ID != early.ID || first[0].LeaseToken != "t1" {
		t.Fatalf("claimed %v: %v", first, err)
	}
	if got := ids(s.claim(t, "a", T0, "t2")); !cmp.Equal(got, []string{late.ID}) {
		t.Errorf("then claimed %v", got)
	}
	if got := s.claim(t, "a", T0, "t3"); len(got) > 0 {
		t.Errorf("claimed %v twice", ids(got))
	}
	if due, err := s.DueSubscriptions(t.Context(), T0); err != nil || !cmp.Equal(due, []string{"b"}) {
		t.Errorf("due %v: %v", due, err)
	}
}

// No delivery is sent by two replicas at once.
func claimConcurrently(t *testing.T, s suite) {
	t.Helper()
	const rows, workers = 60, 6
	for i := range rows {
		s.add(t, Delivery(fmt.Sprintf("e%02d", i), "a"))
	}
	var mu sync.Mutex
	seen := map[string]int{}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for {
				got, err := s.Claim(t.Context(), "a", T0, lease, fmt.Sprint("t", w), 3)
				if err != nil {
					t.Error(err)
					return
				}
				if len(got) == 0 {
					return
				}
				mu.Lock()
				for _, d := range got {
					seen[d.ID]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	// A worker that lost every race of a round may have stopped early; the rest is still due.
	for _, d := range s.claim(t, "a", T0, "last") {
		seen[d.ID]++
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s claimed %d times", id, n)
		}
	}
	if len(seen) < rows-10 {
		t.Errorf("only %d of %d claimed", len(seen), rows)
	}
}

func leaseExpires(t *testing.T, s suite) {
	t.Helper()
	s.add(t, Delivery("e1", "a"))
	lost := s.claim(t, "a", T0, "killed")[0]
	if got := s.claim(t, "a", T0.Add(lease-1), "other"); len(got) > 0 {
		t.Error("claimed while the lease runs")
	}
	taken := s.claim(t, "a", T0.Add(lease), "other")
	if len(taken) != 1 || taken[0].Attempts != 0 {
		t.Fatalf("after the lease: %v", taken)
	}
	if err := s.Finish(t.Context(), lost, T0, store.Attempt{State: store.StateDelivered}); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("the first worker finished: %v", err)
	}
	if err := s.Finish(t.Context(), taken[0], T0, store.Attempt{State: store.StateDelivered}); err != nil {
		t.Error(err)
	}
}

func finish(t *testing.T, s suite) {
	t.Helper()
	s.add(t, Delivery("e1", "a"))
	d := s.claim(t, "a", T0, "t1")[0]
	next := T0.Add(5 * time.Second)
	if err := s.Finish(t.Context(), d, T0, store.Attempt{State: store.StatePending, NextAttempt: next, Error: "status 500", Status: 500}); err != nil {
		t.Fatal(err)
	}
	if got := s.claim(t, "a", next.Add(-1), "t2"); len(got) > 0 {
		t.Error("due too early")
	}
	d = s.claim(t, "a", next, "t2")[0]
	if d.Attempts != 1 || d.Step != 1 || d.LastError != "status 500" || d.LastStatus != 500 {
		t.Errorf("%+v", d)
	}
	if err := s.Finish(t.Context(), d, next, store.Attempt{State: store.StateDelivered, Status: 200}); err != nil {
		t.Fatal(err)
	}
	got := s.all(t)[d.ID]
	if got.State != store.StateDelivered || got.Attempts != 2 || got.LastError != "" || got.LastStatus != 200 || !got.NextAttempt.IsZero() {
		t.Errorf("%+v", got)
	}
	if err := s.Finish(t.Context(), d, next, store.Attempt{State: store.StateFailed}); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("finished twice: %v", err)
	}
}

func release(t *testing.T, s suite) {
	t.Helper()
	s.add(t, Delivery("e1", "a"))
	d := s.claim(t, "a", T0, "t1")[0]
	if err := s.Release(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got := s.claim(t, "a", T0, "t2"); len(got) != 1 || got[0].Attempts != 0 {
		t.Errorf("after the release: %v", got)
	}
	if err := s.Release(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got := s.claim(t, "a", T0, "t3"); len(got) > 0 {
		t.Error("released by somebody without the lease")
	}
}

func list(t *testing.T, s suite) {
	t.Helper()
	for i := range 5 {
		d := Delivery(fmt.Sprint("e", i), []string{"a", "b"}[i%2])
		d.CreateTime = T0.Add(time.Duration(i/2) * time.Second) // some at the same time
		s.add(t, d)
	}
	want := []string{"dlv_e4_a", "dlv_e3_b", "dlv_e2_a", "dlv_e1_b", "dlv_e0_a"}
	var got []string
	q := store.Query{Limit: 2}
	for {
		page, err := s.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		got = append(got, ids(page)...)
		last := page[len(page)-1]
		q.After = store.Position{CreateTime: last.CreateTime, ID: last.ID}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	s.fail(t, s.claim(t, "b", T0.Add(time.Hour), "t")[0], T0)
	for name, tt := range map[string]struct {
		q    store.Query
		want []string
	}{
		"subscription": {store.Query{Subscription: "b"}, []string{"dlv_e3_b", "dlv_e1_b"}},
		"state":        {store.Query{State: store.StateFailed}, []string{"dlv_e1_b"}},
		"digest":       {store.Query{ImageDigest: "sha256:e2"}, []string{"dlv_e2_a"}},
		"all":          {store.Query{Subscription: "b", State: store.StatePending, ImageDigest: "sha256:e3"}, []string{"dlv_e3_b"}},
		"none":         {store.Query{Subscription: "c"}, []string{}},
	} {
		tt.q.Limit = 10
		page, err := s.List(t.Context(), tt.q)
		if err != nil || !cmp.Equal(ids(page), tt.want) {
			t.Errorf("%s: %v, %v", name, ids(page), err)
		}
	}
}

// redeliverWhilePurged: what is sent again is not purged at the same moment, and what
// was purged before is not found.
func redeliverWhilePurged(t *testing.T, s suite) {
	t.Helper()
	for round := range 8 {
		d := Delivery(fmt.Sprint("e", round), "a")
		s.add(t, d)
		for _, claimed := range s.claim(t, "a", T0, "t") {
			s.fail(t, claimed, T0)
		}
		if err := s.DeadLettered(t.Context(), d.ID); err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		both.Go(func() {
			if _, err := s.Purge(t.Context(), T0.Add(time.Hour)); err != nil {
				t.Error(err)
			}
		})
		var err error
		both.Go(func() { _, err = s.Redeliver(t.Context(), []string{d.ID}, T0.Add(2*time.Hour)) })
		both.Wait()
		got, there := s.all(t)[d.ID]
		if err == nil && (!there || got.State != store.StatePending) || err != nil && (there || !errors.Is(err, store.ErrNotFound)) {
			t.Errorf("round %d: %v, there: %v", round, err, there)
		}
	}
}

func redeliver(t *testing.T, s suite) {
	t.Helper()
	future := Delivery("e3", "a")
	future.NextAttempt = T0.Add(time.Hour)
	s.add(t, Delivery("e1", "a"), Delivery("e2", "a"), future)
	for _, d := range s.claim(t, "a", T0, "t") {
		s.fail(t, d, T0)
	}
	if err := s.MarkGone(t.Context(), "a", "hash", T0); err != nil {
		t.Fatal(err)
	}
	now := T0.Add(time.Minute)
	if _, err := s.Redeliver(t.Context(), []string{"dlv_e1_a", "dlv_nobody"}, now); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("unknown id: %v", err)
	}
	if got := s.all(t)["dlv_e1_a"]; got.State != store.StateFailed {
		t.Error("changed although one does not exist")
	}
	if n, err := s.Redeliver(t.Context(), []string{"dlv_e1_a", "dlv_e3_a"}, now); err != nil || n != 2 {
		t.Fatalf("%d, %v", n, err)
	}
	got := s.claim(t, "a", now, "t2")
	if len(got) != 2 || got[0].Step != 0 {
		t.Errorf("due again: %v", ids(got))
	}
	if all := s.all(t); all["dlv_e1_a"].Attempts != 1 || all["dlv_e2_a"].State != store.StateFailed {
		t.Errorf("%+v", all)
	}
	if gone, err := s.Gone(t.Context()); err != nil || len(gone) > 0 {
		t.Errorf("still gone: %v, %v", gone, err)
	}
	if n, err := s.Redeliver(t.Context(), nil, now); err != nil || n != 0 {
		t.Errorf("none: %d, %v", n, err)
	}
}

func replay(t *testing.T, s suite) {
	t.Helper()
	s.add(t, Delivery("e1", "a"), Delivery("e1", "b"), Delivery("e2", "a"))
	d := s.claim(t, "b", T0, "t")[0]
	if err := s.Finish(t.Context(), d, T0, store.Attempt{State: store.StateDelivered}); err != nil {
		t.Fatal(err)
	}
	for _, d := range s.claim(t, "a", T0, "t") {
		s.fail(t, d, T0)
	}
	if n, err := s.Replay(t.Context(), "e1", T0); err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}
	all := s.all(t)
	if all["dlv_e1_a"].State != store.StatePending || all["dlv_e1_b"].State != store.StateDelivered || all["dlv_e2_a"].State != store.StateFailed {
		t.Errorf("%+v", all)
	}
}

func gone(t *testing.T, s suite) {
	t.Helper()
	for _, hash := range []string{"one", "two"} {
		if err := s.MarkGone(t.Context(), "a", hash, T0); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Gone(t.Context())
	if diff := cmp.Diff(map[string]string{"a": "two"}, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func giveUp(t *testing.T, s suite) {
	t.Helper()
	old, future := Delivery("e1", "a"), Delivery("e2", "a")
	old.NextAttempt = T0.Add(-time.Hour)
	future.NextAttempt = T0.Add(time.Hour)
	s.add(t, old, future, Delivery("e3", "a"), Delivery("e1", "b"))
	if n, err := s.GiveUp(t.Context(), "a", "REMOVED", T0.Add(-time.Minute), T0); err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}
	held := s.claim(t, "a", T0, "t")
	if n, err := s.GiveUp(t.Context(), "a", "GONE", time.Time{}, T0); err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}
	all := s.all(t)
	if all[old.ID].GiveUpReason != "REMOVED" || all[future.ID].GiveUpReason != "GONE" ||
		all[held[0].ID].State != store.StatePending || all["dlv_e1_b"].State != store.StatePending {
		t.Errorf("%+v", all)
	}
}

func deadLetters(t *testing.T, s suite) {
	t.Helper()
	s.add(t, Delivery("e1", "a"), Delivery("e2", "a"))
	for i, d := range s.claim(t, "a", T0, "t") {
		s.fail(t, d, T0.Add(time.Duration(i)))
	}
	pending, err := s.PendingDeadLetters(t.Context(), 10)
	if err != nil || !cmp.Equal(ids(pending), []string{"dlv_e1_a", "dlv_e2_a"}) {
		t.Fatalf("%v, %v", ids(pending), err)
	}
	if pending[0].GiveUpReason != "EXHAUSTED" || pending[0].LastError != "status 500" || string(pending[0].Event) != "\x00\x01\xff" || pending[0].EventSequence != 1<<40 {
		t.Errorf("%+v", pending[0])
	}
	if err := s.DeadLettered(t.Context(), "dlv_e1_a"); err != nil {
		t.Fatal(err)
	}
	if pending, err := s.PendingDeadLetters(t.Context(), 10); err != nil || !cmp.Equal(ids(pending), []string{"dlv_e2_a"}) {
		t.Errorf("%v, %v", ids(pending), err)
	}
	// Failing again after a redelivery owes another one.
	if _, err := s.Redeliver(t.Context(), []string{"dlv_e1_a"}, T0); err != nil {
		t.Fatal(err)
	}
	s.fail(t, s.claim(t, "a", T0, "t2")[0], T0)
	if pending, err := s.PendingDeadLetters(t.Context(), 10); err != nil || len(pending) != 2 {
		t.Errorf("%v, %v", ids(pending), err)
	}
}

func purge(t *testing.T, s suite) {
	t.Helper()
	s.add(t, Delivery("e1", "a"), Delivery("e2", "a"), Delivery("e3", "a"), Delivery("e4", "b"))
	claimed := s.claim(t, "a", T0, "t")
	if err := s.Finish(t.Context(), claimed[0], T0, store.Attempt{State: store.StateDelivered}); err != nil {
		t.Fatal(err)
	}
	s.fail(t, claimed[1], T0)
	s.fail(t, claimed[2], T0)
	if err := s.DeadLettered(t.Context(), claimed[1].ID); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Purge(t.Context(), T0); err != nil || n != 0 {
		t.Errorf("purged %d of the same time: %v", n, err)
	}
	if n, err := s.Purge(context.WithoutCancel(t.Context()), T0.Add(1)); err != nil || n != 2 {
		t.Errorf("purged %d: %v", n, err)
	}
	if all := s.all(t); len(all) != 2 || all[claimed[2].ID].ID == "" || all["dlv_e4_b"].ID == "" {
		t.Errorf("left: %v", all)
	}
}
