package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// severalAtOnce: entries are begun and finished together, each by its own rule, or
// none of them is.
func severalAtOnce(t *testing.T, s store.Store) {
	t.Helper()
	begin(t, s, entry(1))
	other := entry(2)
	other.PredicateType = "https://other.example"
	other = reset(other)
	asked := map[int]string{}
	got, err := s.Begin(t.Context(), []store.Entry{entry(2), other}, func(i int, current store.Entry) bool {
		asked[i] = current.ID
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	served := entry(1)
	served.Manifest = nil
	if diff := cmp.Diff([]store.Entry{served, other}, got); diff != "" {
		t.Errorf("Begin() (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[int]string{0: entry(1).ID}, asked); diff != "" {
		t.Errorf("asked about (-want +got):\n%s", diff)
	}
	done := []store.Finished{{ID: entry(1).ID, ManifestDigest: digest(11)}, {ID: "unknown", ManifestDigest: digest(12)}}
	if err := s.Finish(t.Context(), done, epoch); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Finish() = %v, want ErrNotFound", err)
	}
	if e, err := s.Get(t.Context(), entry(1).ID); err != nil || e.Done() {
		t.Errorf("one of two was finished: %v, %v", e, err)
	}
	done[1].ID = other.ID
	if err := s.Finish(t.Context(), done, epoch); err != nil {
		t.Fatal(err)
	}
	for _, f := range done {
		if e, err := s.Get(t.Context(), f.ID); err != nil || e.ManifestDigest != f.ManifestDigest {
			t.Errorf("%s, %v", e.ManifestDigest, err)
		}
	}
}

// lost: what lost its bundle is not in force, and is replaced when it is signed anew.
func lost(t *testing.T, s store.Store) {
	t.Helper()
	finish(t, s, begin(t, s, entry(1)), digest(11))
	finish(t, s, begin(t, s, entry(2)), digest(12))
	stale := entry(2)
	stale.Manifest = []byte("another")
	if err := s.Lose(t.Context(), stale, epoch); err != nil || current(t, s) != entry(2).ID {
		t.Errorf("another manifest was lost, %v, and the entry is no longer in force", err)
	}
	if err := s.Lose(t.Context(), entry(2), epoch.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if current(t, s) != entry(1).ID {
		t.Error("what was lost is still in force")
	}
	again := entry(2)
	again.Manifest, again.SignTime = []byte("signed anew"), epoch.Add(time.Hour)
	if got, err := beginOne(t, s, again, never); err != nil || cmp.Diff(again, got) != "" {
		t.Errorf("Begin() of what was lost: %v\n%s", err, cmp.Diff(again, got))
	}
	got, err := s.Get(t.Context(), again.ID)
	if err != nil || cmp.Diff(again, got) != "" {
		t.Errorf("stored: %v\n%s", err, cmp.Diff(again, got))
	}
	finish(t, s, again, digest(13))
	if got, err = s.Get(t.Context(), again.ID); err != nil || got.ManifestDigest != digest(13) || !got.SupersededTime.IsZero() {
		t.Errorf("after it was attached again: %+v, %v", got, err)
	}
	if got := current(t, s); got != again.ID {
		t.Error("it did not come into force again")
	}
}
