package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

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

// rotateAtOnce: however many rotate at the same time, one key is left without an end,
// and one request makes one key.
func rotateAtOnce(t *testing.T, s store.Store) {
	t.Helper()
	const n = 4
	for round := range 4 {
		made := make([]store.SigningKey, n)
		atOnce(n, func(i int) {
			request := fmt.Sprintf("r%d-%d", round, i/2) // two send each request
			var err error
			k := store.SigningKey{ID: fmt.Sprintf("k%d-%d", round, i), PublicPEM: "pem", StartTime: epoch, SeenTime: epoch}
			if made[i], err = s.Rotate(t.Context(), request, k, epoch.Add(time.Hour)); err != nil {
				t.Error(err)
			}
		})
		for i := 0; i < n; i += 2 {
			if made[i].ID != made[i+1].ID {
				t.Errorf("one request made %s and %s", made[i].ID, made[i+1].ID)
			}
		}
		keys, err := s.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		open := 0
		for _, k := range keys {
			if k.EndTime.IsZero() {
				open++
			}
		}
		if open != 1 {
			t.Errorf("%d keys without an end", open)
		}
	}
}

// lineAtOnce: of several that begin the same line, each content of its own, the first
// serves the others; of several that are finished, the latest is left in force.
func lineAtOnce(t *testing.T, s store.Store) {
	t.Helper()
	const n = 4
	ids := make([]string, n)
	atOnce(n, func(i int) {
		e, err := s.Begin(t.Context(), []store.Entry{entry(i + 1)}, func(int, store.Entry) bool { return true })
		if err != nil {
			t.Error(err)
			return
		}
		ids[i] = e[0].ID
	})
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("several were begun: %v", ids)
			break
		}
	}
	for i := range n {
		begin(t, s, entry(10+i))
	}
	atOnce(n, func(i int) {
		err := s.Finish(t.Context(), []store.Finished{{ID: entry(10 + i).ID, ManifestDigest: digest(20 + i)}}, epoch)
		if err != nil {
			t.Error(err)
		}
	})
	for i := range n {
		e, err := s.Get(t.Context(), entry(10+i).ID)
		if err != nil || !e.Done() || e.SupersededTime.IsZero() != (i == n-1) {
			t.Errorf("entry %d: done %v, superseded %v, %v", i, e.Done(), e.SupersededTime, err)
		}
	}
}
