// Package storetest accepts an engine of the verifier's store.
package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

// Run tests a store; fresh returns an empty one.
func Run(t *testing.T, fresh func(t *testing.T) store.Store) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, store.Store){
		"Save":              testSave,
		"SaveUnchanged":     testSaveUnchanged,
		"SaveReplaces":      testSaveReplaces,
		"SaveConflict":      testSaveConflict,
		"SequenceHasNoGaps": testSequence,
		"Lookup":            testLookup,
		"Pushes":            testPushes,
		"Tags":              testTags,
		"List":              testList,
		"Outbox":            testOutbox,
		"ReportTimes":       testReportTimes,
		"Trust":             testTrust,
		"SyncTrust":         testSyncTrust,
		"History":           testHistory,
		"Exceptions":        testExceptions,
		"Policies":          testPolicies,
		"PolicyFiles":       testPolicyFiles,
		"Rules":             testRules,
		"Reevaluation":      testReevaluation,
		"Lease":             testLease,
		"Documents":         testDocuments,
		"Vex":               testVex,
		"Waiting":           testWaiting,
		"IndexWaiting":      testIndexWaiting,
		"Overtake":          testOvertake,
		"GiveUp":            testGiveUp,
		"Backlog":           testBacklog,
		"Retries":           testRetries,
		"Told":              testTold,
		"Storm":             testStorm,
		"AtOnce":            testAtOnce,
		"RulesAndVerdicts":  testRulesAndVerdicts,
		"Looks":             testLooks,
		"LooksAreFair":      testLooksAreFair,
		"LooksFollow":       testLooksFollow,
		"LooksAreBounded":   testLooksAreBounded,
		"DeadLetters":       testDeadLetters,
		"DeadLettersAtOnce": testDeadLettersAtOnce,
	} {
		t.Run(name, func(t *testing.T) {
			test(t, fresh(t))
		})
	}
}

var (
	start  = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	digest = "sha256:" + strings.Repeat("a", 64)
	image  = imageref.Ref{Registry: "r.example", Repository: "team/app", Digest: digest}
)

func verdict(i imageref.Ref, state core.State, key string, after int64) store.NewVerdict {
	return store.NewVerdict{
		Image: i, State: state, Digest: "sha256:" + key, ChangeKey: key, TraceID: "trace-" + key,
		Headers: `{"h":"` + key + `"}`, CreateTime: start, Body: []byte(key), After: after,
		Revision: store.AnyRevision,
	}
}

func save(t *testing.T, s store.Store, v store.NewVerdict) store.Saved {
	t.Helper()
	saved, err := s.Save(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

func testSave(t *testing.T, s store.Store) {
	t.Helper()
	if n, err := s.LastSequence(t.Context()); n != 0 || err != nil {
		t.Errorf("last sequence of an empty store: %d, %v", n, err)
	}
	first := save(t, s, verdict(image, core.StateFail, "one", 0))
	if diff := cmp.Diff(store.Saved{Changed: true, Sequence: 1}, first); diff != "" {
		t.Error(diff)
	}
	second := save(t, s, verdict(image, core.StatePass, "two", 1))
	if diff := cmp.Diff(store.Saved{Changed: true, Sequence: 2, Previous: core.StateFail}, second); diff != "" {
		t.Error(diff)
	}
	got, err := s.Changes(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	want := []store.Record{
		{Sequence: 1, Image: image, State: core.StateFail, Digest: "sha256:one", TraceID: "trace-one", CreateTime: start, Body: []byte("one")},
		{Sequence: 2, Image: image, State: core.StatePass, PreviousState: core.StateFail, Digest: "sha256:two", TraceID: "trace-two", CreateTime: start, Body: []byte("two")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	if rest, err := s.Changes(t.Context(), 1, 10); err != nil || len(rest) != 1 || rest[0].Sequence != 2 {
		t.Errorf("changes after 1: %+v, %v", rest, err)
	}
	if rest, err := s.Changes(t.Context(), 0, 1); err != nil || len(rest) != 1 {
		t.Errorf("one change: %+v, %v", rest, err)
	}
}

func testSaveUnchanged(t *testing.T, s store.Store) {
	t.Helper()
	save(t, s, verdict(image, core.StatePass, "one", 0))
	if err := s.RecordPush(t.Context(), image, start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	again := verdict(image, core.StatePass, "one", 1)
	again.Digest, again.Body, again.CreateTime = "sha256:later", []byte("later"), start.Add(2*time.Hour)
	if got := save(t, s, again); got != (store.Saved{Sequence: 1, Previous: core.StatePass}) {
		t.Errorf("the same verdict again: %+v", got)
	}
	if i := lookup(t, s, image); i.Latest.Digest != "sha256:one" || !i.Pending.IsZero() {
		t.Errorf("after the same verdict: %+v", i)
	}
	// The push is redelivered after the verdict that answered it.
	if err := s.RecordPush(t.Context(), image, start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if i := lookup(t, s, image); !i.Pending.IsZero() {
		t.Errorf("waits for a push that was answered: %+v", i)
	}
	if n, err := s.LastSequence(t.Context()); n != 1 || err != nil {
		t.Errorf("last sequence: %d, %v", n, err)
	}
	if out, err := s.Outbox(t.Context(), 10); err != nil || len(out) != 1 {
		t.Errorf("outbox: %+v, %v", out, err)
	}
}

// testSaveReplaces stores a verdict that says the same from other evidence: it is the
// newest one, and subscribers are not told.
func testSaveReplaces(t *testing.T, s store.Store) {
	t.Helper()
	save(t, s, verdict(image, core.StatePass, "one", 0))
	again := verdict(image, core.StatePass, "one", 1)
	again.Digest, again.Body, again.Replace = "sha256:later", []byte("later"), true
	if got := save(t, s, again); got != (store.Saved{Changed: true, Sequence: 2, Previous: core.StatePass}) {
		t.Errorf("the same verdict in its place: %+v", got)
	}
	if i := lookup(t, s, image); i.Latest.Digest != "sha256:later" || string(i.Latest.Body) != "later" {
		t.Errorf("the newest verdict: %+v", i.Latest)
	}
	if out, err := s.Outbox(t.Context(), 10); err != nil || len(out) != 1 || out[0].Sequence != 1 {
		t.Errorf("outbox: %+v, %v", out, err)
	}
	// What comes next is news, or not, beside what subscribers know.
	other := verdict(image, core.StateFail, "two", 2)
	other.Replace = true
	save(t, s, other)
	if out, err := s.Outbox(t.Context(), 10); err != nil || len(out) != 2 || out[1].Sequence != 3 || out[1].PreviousState != core.StatePass {
		t.Errorf("outbox: %+v, %v", out, err)
	}
}

func testSaveConflict(t *testing.T, s store.Store) {
	t.Helper()
	save(t, s, verdict(image, core.StatePass, "one", 0))
	for _, after := range []int64{0, 7} {
		v := verdict(image, core.StateFail, "two", after)
		v.ReportTimes = map[string]time.Time{digest: start}
		if _, err := s.Save(t.Context(), v); !errors.Is(err, store.ErrConflict) {
			t.Errorf("after %d: %v, want ErrConflict", after, err)
		}
	}
	times, err := s.ReportTimes(t.Context(), image, []string{digest})
	if err != nil || len(times) != 0 {
		t.Errorf("a refused verdict left %v, %v", times, err)
	}
	if n, err := s.LastSequence(t.Context()); n != 1 || err != nil {
		t.Errorf("last sequence: %d, %v", n, err)
	}
}

// testSequence stores from several goroutines while a reader follows: it must see
// every number once and in order.
func testSequence(t *testing.T, s store.Store) {
	t.Helper()
	const writers, each = 4, 10
	var wg sync.WaitGroup
	errs := make(chan error, writers)
	for w := range writers {
		wg.Go(func() {
			i := image
			i.Repository = fmt.Sprintf("team/app%d", w)
			after := int64(0)
			for n := range each {
				saved, err := s.Save(t.Context(), verdict(i, core.StatePass, fmt.Sprintf("%d-%d", w, n), after))
				if err != nil {
					errs <- err
					return
				}
				after = saved.Sequence
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	var seen []int64
	cursor := int64(0)
	for finished := false; !finished; {
		select {
		case <-done:
			finished = true
		case <-time.After(time.Millisecond):
		}
		for {
			records, err := s.Changes(t.Context(), cursor, 3)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				seen = append(seen, r.Sequence)
				cursor = r.Sequence
			}
			if len(records) == 0 {
				break
			}
		}
	}
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}
	if len(seen) != writers*each {
		t.Fatalf("saw %d changes of %d", len(seen), writers*each)
	}
	for i, n := range seen {
		if n != int64(i+1) {
			t.Fatalf("place %d holds %d: %v", i, n, seen)
		}
	}
}
