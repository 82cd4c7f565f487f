// Package storetest accepts an engine of the verifier's store.
package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

// Run tests a store; fresh returns an empty one.
func Run(t *testing.T, fresh func(t *testing.T) store.Store) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, store.Store){
		"Save":              testSave,
		"SaveUnchanged":     testSaveUnchanged,
		"SaveConflict":      testSaveConflict,
		"SequenceHasNoGaps": testSequence,
		"Images":            testImages,
		"Pushes":            testPushes,
		"Tags":              testTags,
		"List":              testList,
		"Outbox":            testOutbox,
		"ReportTimes":       testReportTimes,
		"Trust":             testTrust,
		"History":           testHistory,
		"Exceptions":        testExceptions,
		"Policies":          testPolicies,
		"PolicyFiles":       testPolicyFiles,
		"Rules":             testRules,
		"Reevaluation":      testReevaluation,
		"Lease":             testLease,
		"Documents":         testDocuments,
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
	images, err := s.Images(t.Context(), image)
	if err != nil || len(images) != 1 || images[0].Latest.Digest != "sha256:one" || !images[0].Pending.IsZero() {
		t.Errorf("after the same verdict: %+v, %v", images, err)
	}
	// The push is redelivered after the verdict that answered it.
	if err := s.RecordPush(t.Context(), image, start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if images, err = s.Images(t.Context(), image); err != nil || !images[0].Pending.IsZero() {
		t.Errorf("waits for a push that was answered: %+v, %v", images, err)
	}
	if n, err := s.LastSequence(t.Context()); n != 1 || err != nil {
		t.Errorf("last sequence: %d, %v", n, err)
	}
	if out, err := s.Outbox(t.Context(), 10); err != nil || len(out) != 1 {
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

func testImages(t *testing.T, s store.Store) {
	t.Helper()
	elsewhere := image
	elsewhere.Repository = "another/app"
	save(t, s, verdict(image, core.StatePass, "one", 0))
	save(t, s, verdict(elsewhere, core.StateFail, "two", 0))
	save(t, s, verdict(image, core.StatePass, "three", 1))

	one, err := s.Images(t.Context(), image)
	if err != nil || len(one) != 1 || one[0].Latest == nil || one[0].Latest.Sequence != 3 {
		t.Errorf("one repository: %+v, %v", one, err)
	}
	all, err := s.Images(t.Context(), imageref.Ref{Digest: digest})
	if err != nil || len(all) != 2 || all[0].Repository != "another/app" || all[0].Latest.State != core.StateFail {
		t.Errorf("every repository: %+v, %v", all, err)
	}
	none, err := s.Images(t.Context(), imageref.Ref{Digest: "sha256:" + strings.Repeat("b", 64)})
	if err != nil || len(none) != 0 {
		t.Errorf("unknown digest: %+v, %v", none, err)
	}
}

func testPushes(t *testing.T, s store.Store) {
	t.Helper()
	pending := func() time.Time {
		t.Helper()
		images, err := s.Images(t.Context(), image)
		if err != nil || len(images) != 1 {
			t.Fatalf("images: %+v, %v", images, err)
		}
		return images[0].Pending
	}
	push := func(at time.Time) {
		t.Helper()
		if err := s.RecordPush(t.Context(), image, at); err != nil {
			t.Fatal(err)
		}
	}
	push(start)
	if !pending().Equal(start) {
		t.Errorf("pending since %s", pending())
	}
	save(t, s, verdict(image, core.StatePass, "one", 0))
	if !pending().IsZero() {
		t.Error("pending with a verdict")
	}
	push(start.Add(-time.Minute))
	if !pending().IsZero() {
		t.Error("a push that is older than the verdict made it pending")
	}
	push(start.Add(time.Minute))
	push(start.Add(time.Second))
	if !pending().Equal(start.Add(time.Minute)) {
		t.Errorf("pending since %s", pending())
	}
	if err := s.Settle(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	if !pending().IsZero() {
		t.Error("pending after Settle")
	}
}

func testTags(t *testing.T, s store.Store) {
	t.Helper()
	tagged := image
	tagged.Tag = "v1"
	other := tagged.WithDigest("sha256:" + strings.Repeat("c", 64))
	resolve := func() (string, string) {
		t.Helper()
		d, p, err := s.ResolveTag(t.Context(), imageref.Ref{Registry: image.Registry, Repository: image.Repository, Tag: "v1"})
		if err != nil {
			t.Fatal(err)
		}
		return d, p
	}
	if _, _, err := s.ResolveTag(t.Context(), tagged); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("unknown tag: %v", err)
	}
	steps := []struct {
		name            string
		do              func() error
		digest, problem string
	}{
		{"push without digest", func() error { return s.RecordPush(t.Context(), tagged.WithDigest(""), start) }, "", ""},
		{"failure", func() error { return s.FailTag(t.Context(), tagged.WithDigest(""), "gone", start.Add(time.Second)) }, "", "gone"},
		{"digest found", func() error { return s.RecordDigest(t.Context(), tagged) }, digest, ""},
		{"late failure", func() error { return s.FailTag(t.Context(), tagged.WithDigest(""), "late", start.Add(time.Second)) }, digest, ""},
		{"digest found again", func() error { return s.RecordDigest(t.Context(), other) }, digest, ""},
		{"older push", func() error { return s.RecordPush(t.Context(), other, start.Add(-time.Hour)) }, digest, ""},
		{"newer push", func() error { return s.RecordPush(t.Context(), other, start.Add(time.Hour)) }, other.Digest, ""},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if d, p := resolve(); d != step.digest || p != step.problem {
			t.Errorf("%s: digest %q, problem %q", step.name, d, p)
		}
	}
	if err := s.RecordDigest(t.Context(), image); err != nil {
		t.Errorf("digest without a tag: %v", err)
	}

	// The failure is heard of before the push that failed.
	early := imageref.Ref{Registry: image.Registry, Repository: image.Repository, Tag: "early"}
	if err := s.FailTag(t.Context(), early, "gone", start.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, push := range []struct {
		at      time.Time
		problem string
	}{{start, "gone"}, {start.Add(time.Minute), ""}} {
		if err := s.RecordPush(t.Context(), early, push.at); err != nil {
			t.Fatal(err)
		}
		if _, p, err := s.ResolveTag(t.Context(), early); err != nil || p != push.problem {
			t.Errorf("after the push of %s: problem %q, %v, want %q", push.at, p, err, push.problem)
		}
	}
}

func testList(t *testing.T, s store.Store) {
	t.Helper()
	repo := func(name string) imageref.Ref {
		i := image
		i.Repository = name
		return i
	}
	save(t, s, verdict(repo("a"), core.StatePass, "1", 0))
	ending := verdict(repo("b"), core.StatePass, "2", 0)
	ending.ExpireTime = start.Add(time.Hour)
	save(t, s, ending)
	save(t, s, verdict(repo("c"), core.StateFail, "3", 0))
	save(t, s, verdict(repo("a"), core.StateFail, "4", 1))
	if err := s.RecordPush(t.Context(), repo("only-pushed"), start); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		q    store.ListQuery
		want []int64
	}{
		"all":            {store.ListQuery{}, []int64{4, 3, 2}},
		"page":           {store.ListQuery{Limit: 1, Before: 4}, []int64{3}},
		"failed":         {store.ListQuery{State: core.StateFail}, []int64{4, 3}},
		"passed":         {store.ListQuery{State: core.StatePass}, []int64{2}},
		"passed, ended":  {store.ListQuery{State: core.StatePass, Now: start.Add(time.Hour)}, nil},
		"unknown, ended": {store.ListQuery{State: core.StateUnknown, Now: start.Add(time.Hour)}, []int64{2}},
		"repository":     {store.ListQuery{Repository: "r.example/c"}, []int64{3}},
		"no repository":  {store.ListQuery{Repository: "r.example/only-pushed"}, nil},
	}
	for name, tc := range tests {
		if tc.q.Limit == 0 {
			tc.q.Limit = 10
		}
		if tc.q.Now.IsZero() {
			tc.q.Now = start
		}
		records, err := s.List(t.Context(), tc.q)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, r := range records {
			got = append(got, r.Sequence)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func testOutbox(t *testing.T, s store.Store) {
	t.Helper()
	save(t, s, verdict(image, core.StatePass, "one", 0))
	save(t, s, verdict(image, core.StateFail, "two", 1))
	out, err := s.Outbox(t.Context(), 10)
	if err != nil || len(out) != 2 {
		t.Fatalf("outbox: %+v, %v", out, err)
	}
	if out[0].Sequence != 1 || out[0].Headers != `{"h":"one"}` || string(out[0].Body) != "one" || out[1].PreviousState != core.StatePass {
		t.Errorf("outbox: %+v", out)
	}
	if one, err := s.Outbox(t.Context(), 1); err != nil || len(one) != 1 {
		t.Errorf("outbox of one: %+v, %v", one, err)
	}
	for range 2 { // taking out twice is no error
		if err := s.Published(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	if out, err = s.Outbox(t.Context(), 10); err != nil || len(out) != 1 || out[0].Sequence != 2 {
		t.Errorf("outbox after publishing: %+v, %v", out, err)
	}
}

func testReportTimes(t *testing.T, s store.Store) {
	t.Helper()
	v := verdict(image, core.StatePass, "one", 0)
	v.ReportTimes = map[string]time.Time{digest: start}
	save(t, s, v)
	// An unchanged verdict moves the time too, an older report does not.
	for i, at := range []time.Time{start.Add(time.Hour), start.Add(time.Minute)} {
		v = verdict(image, core.StatePass, "one", 1)
		v.ReportTimes = map[string]time.Time{digest: at}
		save(t, s, v)
		got, err := s.ReportTimes(t.Context(), image, []string{digest, "sha256:none"})
		if diff := cmp.Diff(map[string]time.Time{digest: start.Add(time.Hour)}, got); err != nil || diff != "" {
			t.Errorf("step %d: %v, %s", i, err, diff)
		}
	}
	// A copy in another repository has reports of its own.
	elsewhere := image
	elsewhere.Repository = "another/app"
	if got, err := s.ReportTimes(t.Context(), elsewhere, []string{digest}); err != nil || len(got) != 0 {
		t.Errorf("another repository: %v, %v", got, err)
	}
}

func testTrust(t *testing.T, s store.Store) {
	t.Helper()
	if _, _, err := s.LoadTrust(t.Context(), "signer"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("nothing kept: %v", err)
	}
	for _, body := range []string{"one", "two"} {
		if err := s.SaveTrust(t.Context(), "signer", []byte(body), start); err != nil {
			t.Fatal(err)
		}
	}
	body, fetched, err := s.LoadTrust(t.Context(), "signer")
	if err != nil || string(body) != "two" || !fetched.Equal(start) {
		t.Errorf("kept %q of %s, %v", body, fetched, err)
	}
}

func testHistory(t *testing.T, s store.Store) {
	t.Helper()
	elsewhere := image
	elsewhere.Repository = "team/copy"
	first := verdict(image, core.StateFail, "one", 0)
	first.Cause = store.Cause{Kind: core.CauseFirst, Detail: "the first"}
	save(t, s, first)
	save(t, s, verdict(elsewhere, core.StatePass, "other", 0))
	save(t, s, verdict(image, core.StatePass, "two", 1))
	save(t, s, verdict(image, core.StateFail, "one", 3))
	history := func(i imageref.Ref, before int64, limit int) []int64 {
		t.Helper()
		all, err := s.History(t.Context(), i, before, limit)
		if err != nil {
			t.Fatal(err)
		}
		var out []int64
		for _, r := range all {
			out = append(out, r.Sequence)
		}
		return out
	}
	if d := cmp.Diff([]int64{4, 3, 1}, history(image, 0, 10)); d != "" {
		t.Errorf("in one repository (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]int64{4, 3, 2, 1}, history(imageref.Ref{Digest: digest}, 0, 10)); d != "" {
		t.Errorf("in all repositories (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]int64{3}, history(image, 4, 1)); d != "" {
		t.Errorf("a page (-want +got):\n%s", d)
	}
	all, err := s.History(t.Context(), image, 0, 10)
	if err != nil || all[2].Cause != first.Cause || all[0].PreviousState != core.StatePass || all[0].Cause != (store.Cause{}) {
		t.Errorf("causes: %+v, %v", all, err)
	}
	if r, err := s.Verdict(t.Context(), "sha256:one"); err != nil || r.Sequence != 4 {
		t.Errorf("verdict by digest: %+v, %v", r, err)
	}
	if _, err := s.Verdict(t.Context(), "sha256:none"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no verdict: %v", err)
	}
}

func testDocuments(t *testing.T, s store.Store) {
	t.Helper()
	d := record.Document{Digest: "sha256:doc", Packed: []byte{0, 1, 2}}
	v := verdict(image, core.StateFail, "one", 0)
	v.Documents = []record.Document{d}
	save(t, s, v)
	again := verdict(image, core.StatePass, "two", 1)
	again.Documents = []record.Document{{Digest: d.Digest, Packed: []byte("other")}, {Digest: "sha256:new", Packed: []byte("new")}}
	save(t, s, again)
	got, err := s.Document(t.Context(), d.Digest)
	if err != nil || cmp.Diff(d, got) != "" {
		t.Errorf("document: %+v, %v", got, err)
	}
	if got, err := s.Document(t.Context(), "sha256:new"); err != nil || string(got.Packed) != "new" {
		t.Errorf("second document: %+v, %v", got, err)
	}
	if _, err := s.Document(t.Context(), "sha256:none"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no document: %v", err)
	}
	// A verdict that says nothing new leaves no documents behind.
	same := verdict(image, core.StatePass, "two", 2)
	same.Documents = []record.Document{{Digest: "sha256:same", Packed: []byte("same")}}
	save(t, s, same)
	if _, err := s.Document(t.Context(), "sha256:same"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("document of an unchanged verdict: %v", err)
	}
}
