package storetest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

// atOnce runs f for 0…n-1, all at the same time.
func atOnce(n int, f func(i int)) {
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-begin
			f(i)
		})
	}
	close(begin)
	all.Wait()
}

// together is how many change the same thing at the same time.
const together = 4

// oneOf counts who succeeds; the others must fail with want.
func oneOf(t *testing.T, what string, want error, f func(i int) error) {
	t.Helper()
	var succeeded atomic.Int64
	atOnce(together, func(i int) {
		switch err := f(i); {
		case err == nil:
			succeeded.Add(1)
		case !errors.Is(err, want):
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	})
	if got := succeeded.Load(); got != 1 {
		t.Errorf("%s: %d of %d succeeded at the same time", what, got, together)
	}
}

// testAtOnce: of several changes that each read the same state, one is made.
func testAtOnce(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	for round := range int64(5) {
		oneOf(t, "verdicts of one image", store.ErrConflict, func(i int) error {
			_, err := s.Save(ctx, verdict(image, core.StatePass, fmt.Sprintf("key%d-%d", round, i), round))
			return err
		})
	}
	if last, err := s.LastSequence(ctx); err != nil || last != 5 {
		t.Errorf("last sequence %d, %v; want 5", last, err)
	}

	oneOf(t, "the last place for an exception", store.ErrTooMany, func(i int) error {
		_, err := s.CreateException(ctx, store.Exception{Name: strconv.Itoa(i), CreateTime: start, Body: []byte("body")}, 1, because, auditOf("x"+strconv.Itoa(i)))
		return err
	})
	oneOf(t, "policies of one name", store.ErrExists, func(i int) error {
		_, err := s.CreatePolicy(ctx, policyOf("p", strconv.Itoa(i), "create"+strconv.Itoa(i)), 10, auditOf("c"+strconv.Itoa(i)))
		return err
	})
	all, err := s.Policies(ctx, "", 10)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d policies, %v", len(all), err)
	}
	oneOf(t, "updates with one etag", store.ErrEtag, func(i int) error {
		_, err := s.UpdatePolicy(ctx, policyOf("p", "next"+strconv.Itoa(i), "update"+strconv.Itoa(i)), all[0].Etag(), auditOf("u"+strconv.Itoa(i)))
		return err
	})
	oneOf(t, "requests to delete", store.ErrNotFound, func(i int) error {
		return s.DeletePolicy(ctx, policyOf("p", "", ""), "", auditOf("d"+strconv.Itoa(i)))
	})
}

// testRulesAndVerdicts: no verdict is stored after a change of the rules that was made
// by the rules before it.
func testRulesAndVerdicts(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	for round := range 8 {
		before := revision(t, s)
		i := image
		i.Repository = "round" + strconv.Itoa(round)
		var changed atomic.Bool
		atOnce(2, func(n int) {
			if n == 0 {
				_, err := s.CreateException(ctx, store.Exception{Name: strconv.Itoa(round), CreateTime: start, Body: []byte("body")}, 100, because, auditOf(strconv.Itoa(round)))
				if err != nil {
					t.Error(err)
				}
				changed.Store(true)
				return
			}
			v := verdict(i, core.StatePass, "k"+strconv.Itoa(round), 0)
			v.Revision = before
			after := changed.Load()
			_, err := s.Save(ctx, v)
			if err != nil && !errors.Is(err, store.ErrConflict) || err == nil && after {
				t.Errorf("stored by old rules: %v", err)
			}
		})
		i.Repository = "late" + strconv.Itoa(round)
		v := verdict(i, core.StatePass, "late"+strconv.Itoa(round), 0)
		v.Revision = before
		if _, err := s.Save(ctx, v); !errors.Is(err, store.ErrConflict) {
			t.Errorf("by rules that have changed: %v", err)
		}
	}
}
