package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

func letter(n int, service, reason string, at time.Time) store.DeadLetter {
	return store.DeadLetter{
		Service: service, EventID: fmt.Sprint("id-", n), Reason: reason, StoreTime: at, Traceparent: "00-a-b-01", Body: fmt.Appendf(nil, "letter %03d", n),
	}
}

func testDeadLetters(t *testing.T, s store.Store) {
	t.Helper()
	limits := store.DeadLetterLimits{Age: 30 * 24 * time.Hour, Bytes: 1000, LeastAge: 24 * time.Hour}
	keep := func(l store.DeadLetter) (early int) {
		t.Helper()
		early, err := s.KeepDeadLetter(t.Context(), l, limits)
		if err != nil {
			t.Fatal(err)
		}
		return early
	}
	list := func(q store.DeadLetterQuery) (out []string) {
		t.Helper()
		all, err := s.DeadLetters(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range all {
			out = append(out, string(l.Body))
		}
		return out
	}
	all := store.DeadLetterQuery{Limit: 1000, Bytes: 1 << 20}
	for i, l := range []store.DeadLetter{
		letter(1, "scanner", "A", start), letter(2, "scanner", "B", start), letter(1, "signer", "A", start),
		letter(1, "scanner", "C", start.Add(time.Hour)), // came twice
	} {
		if early := keep(l); early != 0 {
			t.Errorf("letter %d made %d go", i, early)
		}
	}
	got, err := s.DeadLetters(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	want := letter(2, "scanner", "B", start)
	want.Sequence = 2
	if len(got) != 3 || cmp.Diff(want, got[1]) != "" {
		t.Fatalf("stored %+v, want three and the second to be %+v", got, want)
	}
	for name, c := range map[string]struct {
		q    store.DeadLetterQuery
		want []string
	}{
		"service": {store.DeadLetterQuery{Service: "signer", Limit: 10, Bytes: 1000}, []string{"letter 001"}},
		"reason":  {store.DeadLetterQuery{Reason: "B", Limit: 10, Bytes: 1000}, []string{"letter 002"}},
		"from":    {store.DeadLetterQuery{From: 2, Limit: 10, Bytes: 1000}, []string{"letter 002", "letter 001"}},
		"limit":   {store.DeadLetterQuery{Limit: 1, Bytes: 1000}, []string{"letter 001"}},
		"bytes":   {store.DeadLetterQuery{Limit: 10, Bytes: 11}, []string{"letter 001", "letter 002"}},
	} {
		if diff := cmp.Diff(c.want, list(c.q)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}

	// Above the limit of bytes none goes before its first day is over.
	for i := 10; i < 110; i++ {
		keep(letter(i, "scanner", "A", start.Add(24*time.Hour)))
	}
	if n := len(list(all)); n != 103 {
		t.Errorf("%d letters on the first day, want all 103", n)
	}
	if early := keep(letter(200, "scanner", "A", start.Add(24*time.Hour+1))); early != 3 {
		t.Errorf("%d went because of the size, want the 3 of the first day", early)
	}
	if early := keep(letter(201, "scanner", "A", start.Add(49*time.Hour))); early != 2 {
		t.Errorf("%d went, want the 2 that are too many", early)
	}
	if n := len(list(all)); n != 100 {
		t.Errorf("%d letters, want 100 of 10 bytes", n)
	}
	// After their age all go.
	if early := keep(letter(202, "scanner", "A", start.Add(40*24*time.Hour))); early != 0 {
		t.Errorf("%d went before their age", early)
	}
	keep(letter(203, "scanner", "A", start.Add(40*24*time.Hour)))
	if diff := cmp.Diff([]string{"letter 202", "letter 203"}, list(all)); diff != "" {
		t.Errorf("after 40 days (-want +got):\n%s", diff)
	}
}

// Replicas store letters at the same time, and the same letter.
func testDeadLettersAtOnce(t *testing.T, s store.Store) {
	t.Helper()
	limits := store.DeadLetterLimits{Age: time.Hour, Bytes: 1 << 20}
	var g errgroup.Group
	for range 4 {
		g.Go(func() error {
			for i := range 20 {
				if _, err := s.KeepDeadLetter(t.Context(), letter(i, "scanner", "A", start), limits); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	all, err := s.DeadLetters(t.Context(), store.DeadLetterQuery{Limit: 1000, Bytes: 1 << 20})
	if err != nil || len(all) != 20 {
		t.Errorf("%d letters, %v; want 20", len(all), err)
	}
}
