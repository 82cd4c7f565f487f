package storetest

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

var because = store.Cause{Kind: core.CauseException, Detail: "because"}

// auditor gives the audits of one test, one second after another.
func auditor() func() store.Audit {
	n := 0
	return func() store.Audit {
		n++
		return store.Audit{ID: strconv.Itoa(n), Time: start.Add(time.Duration(n) * time.Second), Actor: "ann", Action: "act"}
	}
}

// resources are those of the unpublished audits.
func resources(t *testing.T, s store.Store) []string {
	t.Helper()
	all, err := s.Audits(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, a := range all {
		if a.Actor != "ann" || a.Action != "act" {
			t.Errorf("audit = %+v", a)
		}
		out = append(out, a.Resource)
	}
	return out
}

func revision(t *testing.T, s store.Store) int64 {
	t.Helper()
	n, err := s.RulesRevision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func names(t *testing.T, s store.Store, after string, limit int) []string {
	t.Helper()
	all, err := s.Exceptions(t.Context(), after, limit)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range all {
		out = append(out, e.Name)
	}
	return out
}

func testExceptions(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	by, before := auditor(), revision(t, s)
	a := store.Exception{Name: "a", RequestID: "r1", CreateTime: start, Body: []byte("body of a")}
	got, err := s.CreateException(ctx, a, 2, because, by())
	if err != nil || cmp.Diff(a, got) != "" || revision(t, s) != before+1 {
		t.Fatalf("create: %+v, %v", got, err)
	}
	repeated := a
	repeated.Body = []byte("other")
	if got, err := s.CreateException(ctx, repeated, 2, because, by()); err != nil || cmp.Diff(a, got) != "" || revision(t, s) != before+1 {
		t.Errorf("the same request again: %+v, %v", got, err)
	}
	repeated.RequestID = "r2"
	if _, err := s.CreateException(ctx, repeated, 2, because, by()); !errors.Is(err, store.ErrExists) {
		t.Errorf("the same name: %v", err)
	}
	fromFile := store.Exception{Name: "f", FromFile: true, CreateTime: start, Body: []byte("body of f")}
	for range 2 { // the second time nothing changes
		if err := s.SyncExceptions(ctx, []store.Exception{fromFile}, because, by()); err != nil || revision(t, s) != before+2 {
			t.Errorf("sync: %v, revision %d", err, revision(t, s)-before)
		}
	}
	if _, err := s.CreateException(ctx, store.Exception{Name: "c"}, 2, because, by()); !errors.Is(err, store.ErrTooMany) {
		t.Errorf("one too many: %v", err)
	}
	if d := cmp.Diff([]string{"a", "f"}, names(t, s, "", 10)); d != "" {
		t.Errorf("names (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"f"}, names(t, s, "a", 1)); d != "" {
		t.Errorf("names after a (-want +got):\n%s", d)
	}
	if got, err := s.Exception(ctx, "f"); err != nil || cmp.Diff(fromFile, got) != "" {
		t.Errorf("one: %+v, %v", got, err)
	}
	if err := s.DeleteException(ctx, "f", because, by()); !errors.Is(err, store.ErrFromFile) {
		t.Errorf("delete one of a file: %v", err)
	}
	if err := s.SyncExceptions(ctx, []store.Exception{{Name: "a", FromFile: true, Body: []byte("x")}}, because, by()); !errors.Is(err, store.ErrExists) {
		t.Errorf("a file with the name of the API: %v", err)
	}
	if d := cmp.Diff([]string{"a", "f"}, names(t, s, "", 10)); d != "" {
		t.Errorf("a sync that failed changed something (-want +got):\n%s", d)
	}
	fromFile.Body = []byte("changed")
	if err := s.SyncExceptions(ctx, []store.Exception{fromFile}, because, by()); err != nil || revision(t, s) != before+3 {
		t.Errorf("a changed file: %v", err)
	}
	if err := s.SyncExceptions(ctx, nil, because, by()); err != nil || revision(t, s) != before+4 {
		t.Errorf("no file: %v", err)
	}
	if err := s.DeleteException(ctx, "a", because, by()); err != nil || revision(t, s) != before+5 {
		t.Errorf("delete: %v", err)
	}
	if err := s.DeleteException(ctx, "a", because, by()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("delete again: %v", err)
	}
	if _, err := s.Exception(ctx, "a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deleted one: %v", err)
	}
	want := []string{
		"exception a", "exception f", "exception f (deleted)", "exception f", "exception f (deleted)", "exception a (deleted)",
	}
	if d := cmp.Diff(want, resources(t, s)); d != "" {
		t.Errorf("audits (-want +got):\n%s", d)
	}
}

// testRules stores verdicts made by rules that have changed meanwhile.
func testRules(t *testing.T, s store.Store) {
	t.Helper()
	v := verdict(image, core.StatePass, "one", 0)
	v.Revision = revision(t, s)
	if _, err := s.CreateException(t.Context(), store.Exception{Name: "a", Body: []byte("x")}, 9, because, auditor()()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Save(t.Context(), v); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a verdict by rules of before: %v", err)
	}
	v.Revision = revision(t, s)
	save(t, s, v)
	// A re-evaluation leaves a push waiting.
	if err := s.RecordPush(t.Context(), image, start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	for n, key := range []string{"one", "two"} {
		again := verdict(image, core.StateFail, key, int64(1))
		again.KeepPending = true
		save(t, s, again)
		if i := lookup(t, s, image); i.Pending.IsZero() {
			t.Errorf("%d: no push waits any more", n)
		}
	}
}

func testReevaluation(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	if _, err := s.NextReevaluation(ctx); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no work: %v", err)
	}
	ref := func(repository, letter string) imageref.Ref {
		return imageref.Ref{Registry: "r.example", Repository: repository, Digest: "sha256:" + strings.Repeat(letter, 64)}
	}
	all := []imageref.Ref{ref("x", "a"), ref("y", "a"), ref("x", "b"), ref("x", "c")}
	for i := len(all) - 1; i >= 0; i-- {
		v := verdict(all[i], core.StatePass, "key", 0)
		if i%2 == 0 {
			v.ExpireTime = start.Add(time.Duration(i+1) * time.Hour)
		}
		save(t, s, v)
	}
	if err := s.RecordPush(ctx, ref("never-judged", "b"), start); err != nil {
		t.Fatal(err)
	}
	var got []imageref.Ref
	for after := (imageref.Ref{}); ; {
		page, err := s.JudgedAfter(ctx, after, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		got, after = append(got, page...), page[len(page)-1]
	}
	if d := cmp.Diff(all, got); d != "" {
		t.Errorf("images in order (-want +got):\n%s", d)
	}
	for hours, want := range map[int][]imageref.Ref{0: nil, 1: {all[0]}, 3: {all[0], all[2]}} {
		due, err := s.Expired(ctx, start.Add(time.Duration(hours)*time.Hour), imageref.Ref{}, 10)
		if d := cmp.Diff(want, due); d != "" || err != nil {
			t.Errorf("after %d hours: %v (-want +got):\n%s", hours, err, d)
		}
	}

	by := auditor()
	if _, err := s.CreateException(ctx, store.Exception{Name: "a", Body: []byte("x")}, 9, because, by()); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteException(ctx, "a", because, by()); err != nil {
		t.Fatal(err)
	}
	first, err := s.NextReevaluation(ctx)
	if err != nil || first.Cause != because || first.After != (imageref.Ref{}) {
		t.Fatalf("first work: %+v, %v", first, err)
	}
	first.After = all[1]
	if err := s.AdvanceReevaluation(ctx, first, false); err != nil {
		t.Fatal(err)
	}
	if again, err := s.NextReevaluation(ctx); err != nil || cmp.Diff(first, again) != "" {
		t.Errorf("work after a crash: %+v, %v", again, err)
	}
	if err := s.AdvanceReevaluation(ctx, first, true); err != nil {
		t.Fatal(err)
	}
	if second, err := s.NextReevaluation(ctx); err != nil || second.Revision != first.Revision+1 {
		t.Errorf("second work: %+v, %v", second, err)
	}
}

func testLease(t *testing.T, s store.Store) {
	t.Helper()
	take := func(holder string, at time.Duration, want bool) {
		t.Helper()
		if got, err := s.Lease(t.Context(), "l", holder, start.Add(at), time.Minute); err != nil || got != want {
			t.Errorf("%s after %v: %t, %v", holder, at, got, err)
		}
	}
	take("one", 0, true)
	take("two", time.Second, false)
	take("one", 30*time.Second, true)
	take("two", 61*time.Second, false)
	take("two", 90*time.Second, true)
	take("one", 91*time.Second, false)
}
