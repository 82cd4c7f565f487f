package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

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
