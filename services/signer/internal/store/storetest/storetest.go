// Package storetest is the suite that an implementation of store.Store has to
// pass.
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

	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func digest(n int) string { return "sha256:" + strings.Repeat("0", 62) + fmt.Sprintf("%02d", n) }

func entry(n int) store.Entry {
	return reset(store.Entry{
		Key: store.Key{
			Line: store.Line{
				Registry: "registry.example:5000", Repository: "team/app", SubjectDigest: digest(1),
				PredicateType: "https://spdx.dev/Document",
			},
			ContentKey: digest(n),
		},
		ClaimTime:     epoch.Add(time.Duration(n) * time.Second),
		ContentDigest: digest(50), KeyID: "key", Manifest: fmt.Appendf(nil, `{"n":%d}`, n),
		SignTime: epoch.Add(time.Duration(n) * time.Second), TraceID: "trace",
	})
}

// reset gives an entry the ID that belongs to what it holds.
func reset(e store.Entry) store.Entry {
	e.ID = store.ID(e.Key, e.ClaimTime, e.KeyID)
	return e
}

func never(store.Entry) bool { return false }

// sameContent is the simplest rule: what says the same serves.
func sameContent(e store.Entry) func(store.Entry) bool {
	return func(current store.Entry) bool { return current.ContentKey == e.ContentKey }
}

// Run runs the suite; fresh returns an empty store.
func Run(t *testing.T, fresh func(t *testing.T) store.Store) {
	t.Helper()
	for name, f := range map[string]func(*testing.T, store.Store){
		"GetOfNothing":        getOfNothing,
		"IntentThenDone":      intentThenDone,
		"BeginKeepsTheFirst":  beginKeepsTheFirst,
		"BeginAtOnce":         beginAtOnce,
		"EveryPartOfTheKey":   everyPartOfTheKey,
		"LargeBundle":         largeBundle,
		"SeveralAtOnce":       severalAtOnce,
		"Lost":                lost,
		"List":                list,
		"ListPages":           listPages,
		"Keys":                keys,
		"FinishAgainReplaces": finishAgainReplaces,
		"CurrentIsTheLatest":  currentIsTheLatest,
		"ThereAndBack":        thereAndBack,
		"LateIsSuperseded":    lateIsSuperseded,
		"Removals":            removals,
		"Rotate":              rotate,
		"RotateAtOnce":        rotateAtOnce,
		"LineAtOnce":          lineAtOnce,
		"LineOfEachIdentity":  lineOfEachIdentity,
		"KeysOfOthers":        keysOfOthers,
	} {
		t.Run(name, func(t *testing.T) { f(t, fresh(t)) })
	}
}

func getOfNothing(t *testing.T, s store.Store) {
	t.Helper()
	if _, err := s.Get(t.Context(), entry(1).ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get() = %v, want ErrNotFound", err)
	}
	if err := s.Finish(t.Context(), []store.Finished{{ID: entry(1).ID, ManifestDigest: digest(9)}}, epoch); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Finish() = %v, want ErrNotFound", err)
	}
}

func beginOne(t *testing.T, s store.Store, e store.Entry, serves func(store.Entry) bool) (store.Entry, error) {
	t.Helper()
	stored, err := s.Begin(t.Context(), []store.Entry{e}, func(_ int, current store.Entry) bool { return serves(current) })
	if err != nil || len(stored) != 1 {
		return store.Entry{}, errors.Join(err, errors.New("nothing was stored"))
	}
	return stored[0], nil
}

func begin(t *testing.T, s store.Store, e store.Entry) store.Entry {
	t.Helper()
	got, err := beginOne(t, s, e, sameContent(e))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func finish(t *testing.T, s store.Store, e store.Entry, manifest string) {
	t.Helper()
	if err := s.Finish(t.Context(), []store.Finished{{ID: e.ID, ManifestDigest: manifest}}, epoch.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
}

func intentThenDone(t *testing.T, s store.Store) {
	t.Helper()
	want := entry(1)
	if diff := cmp.Diff(want, begin(t, s, want)); diff != "" {
		t.Errorf("Begin() (-want +got):\n%s", diff)
	}
	got, err := s.Get(t.Context(), want.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" || got.Done() {
		t.Errorf("intent (-want +got):\n%s", diff)
	}
	finish(t, s, want, digest(9))
	want.ManifestDigest, want.DoneTime = digest(9), epoch.Add(time.Hour)
	got, err = s.Get(t.Context(), want.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" || !got.Done() {
		t.Errorf("done entry (-want +got):\n%s", diff)
	}
}

func beginKeepsTheFirst(t *testing.T, s store.Store) {
	t.Helper()
	first := begin(t, s, entry(1))
	other := entry(1)
	other.Manifest, other.TraceID = []byte("other"), "other"
	second := begin(t, s, other)
	if second.Manifest != nil {
		t.Error("Begin() reads the manifest that was there")
	}
	if got, err := s.Get(t.Context(), second.ID); err != nil || cmp.Diff(first, got) != "" {
		t.Errorf("after the second Begin, %v (-first +stored):\n%s", err, cmp.Diff(first, got))
	}
}

func beginAtOnce(t *testing.T, s store.Store) {
	t.Helper()
	const writers = 8
	got := make([]string, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			e := entry(1)
			e.Manifest = fmt.Appendf(nil, "writer %d", i)
			stored, err := beginOne(t, s, e, sameContent(e))
			if err != nil {
				t.Error(err)
				return
			}
			if stored, err = s.Get(t.Context(), stored.ID); err != nil {
				t.Error(err)
				return
			}
			got[i] = string(stored.Manifest)
		})
	}
	wg.Wait()
	if slices.Sort(got); len(slices.Compact(got)) != 1 {
		t.Errorf("writers got different manifests: %q", got)
	}
}

func everyPartOfTheKey(t *testing.T, s store.Store) {
	t.Helper()
	base := entry(1)
	begin(t, s, base)
	for name, change := range map[string]func(*store.Key){
		"registry":   func(k *store.Key) { k.Registry = "other.example" },
		"repository": func(k *store.Key) { k.Repository = "other" },
		"subject":    func(k *store.Key) { k.SubjectDigest = digest(2) },
		"predicate":  func(k *store.Key) { k.PredicateType = "https://other.example" },
		"content":    func(k *store.Key) { k.ContentKey = digest(3) },
		"identity":   func(k *store.Key) { k.Identity = "other" },
		"boundary":   func(k *store.Key) { k.Registry, k.Repository = k.Registry+"t", k.Repository[1:] },
	} {
		k := base.Key
		change(&k)
		if _, err := s.Get(t.Context(), store.ID(k, base.ClaimTime, base.KeyID)); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s does not tell entries apart: %v", name, err)
		}
	}
}

func largeBundle(t *testing.T, s store.Store) {
	t.Helper()
	e := entry(1)
	e.Bundle = make([]byte, 8<<20)
	for i := range e.Bundle {
		e.Bundle[i] = byte(i)
	}
	begin(t, s, e)
	got, err := s.Get(t.Context(), e.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Bundle, e.Bundle) {
		t.Error("the bundle changed")
	}
}

func list(t *testing.T, s store.Store) {
	t.Helper()
	for n := range 4 {
		finish(t, s, begin(t, s, entry(n)), digest(10+n))
	}
	begin(t, s, entry(4)) // an intent: not to be listed
	other := entry(5)
	other.Repository = "team/other"
	other = reset(other)
	finish(t, s, begin(t, s, other), digest(20))
	elsewhere := entry(6)
	elsewhere.SubjectDigest = digest(2)
	elsewhere = reset(elsewhere)
	finish(t, s, begin(t, s, elsewhere), digest(21))

	tests := []struct {
		name string
		q    store.Query
		want []string
	}{
		{"by digest", store.Query{SubjectDigest: digest(1), Limit: 10}, []string{digest(20), digest(13), digest(12), digest(11), digest(10)}},
		{"by repository", store.Query{SubjectDigest: digest(1), Registry: "registry.example:5000", Repository: "team/app", Limit: 10}, []string{digest(13), digest(12), digest(11), digest(10)}},
		{"limit", store.Query{SubjectDigest: digest(1), Limit: 2}, []string{digest(20), digest(13)}},
		{"other registry", store.Query{SubjectDigest: digest(1), Registry: "other", Limit: 10}, nil},
		{"unknown digest", store.Query{SubjectDigest: digest(3), Limit: 10}, nil},
	}
	for _, tt := range tests {
		got, err := s.List(t.Context(), tt.q)
		if err != nil {
			t.Fatal(err)
		}
		var manifests []string
		for _, e := range got {
			if e.Bundle != nil || e.Manifest != nil {
				t.Error("List returned a bundle")
			}
			manifests = append(manifests, e.ManifestDigest)
		}
		if diff := cmp.Diff(tt.want, manifests); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func listPages(t *testing.T, s store.Store) {
	t.Helper()
	const total = 7
	for n := range total {
		e := entry(n)
		e.SignTime = epoch.Add(time.Duration(n/3) * time.Second) // several in one second
		finish(t, s, begin(t, s, e), digest(10+n))
	}
	seen := map[string]bool{}
	q := store.Query{SubjectDigest: digest(1), Limit: 2}
	for {
		page, err := s.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			if seen[e.ManifestDigest] {
				t.Errorf("%s came twice", e.ManifestDigest)
			}
			seen[e.ManifestDigest] = true
		}
		last := page[len(page)-1]
		q.After = &store.Cursor{SignTime: last.SignTime, ID: last.ID}
	}
	if len(seen) != total {
		t.Errorf("paging saw %d entries, want %d", len(seen), total)
	}
}

func keys(t *testing.T, s store.Store) {
	t.Helper()
	old := store.SigningKey{ID: "old", PublicPEM: "pem 1", SeenTime: epoch}
	now := store.SigningKey{ID: "new", PublicPEM: "pem 2", StartTime: epoch, EndTime: epoch.Add(time.Hour), SeenTime: epoch.Add(time.Minute)}
	again := old
	again.SeenTime = epoch.Add(time.Hour)
	for _, k := range []store.SigningKey{old, now, again} {
		if err := s.AddKey(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]store.SigningKey{now, old}, got); diff != "" {
		t.Errorf("Keys() (-want +got):\n%s", diff)
	}
}

func finishAgainReplaces(t *testing.T, s store.Store) {
	t.Helper()
	e := begin(t, s, entry(1))
	finish(t, s, e, digest(9))
	finish(t, s, e, digest(8))
	got, err := s.Get(t.Context(), e.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.ManifestDigest != digest(8) {
		t.Errorf("manifest = %s, want the second", got.ManifestDigest)
	}
}

func current(t *testing.T, s store.Store) string {
	t.Helper()
	e, err := s.Current(t.Context(), entry(1).Line)
	if err != nil {
		t.Fatal(err)
	}
	return e.ID
}

func currentIsTheLatest(t *testing.T, s store.Store) {
	t.Helper()
	if _, err := s.Current(t.Context(), entry(1).Line); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Current() of nothing = %v, want ErrNotFound", err)
	}
	finish(t, s, begin(t, s, entry(2)), digest(12))
	begin(t, s, entry(1)) // the claim of before comes late
	if got := current(t, s); got != entry(2).ID {
		t.Error("an older claim became current")
	}
	begin(t, s, entry(3)) // an intent counts: what is behind it is on its way
	if got := current(t, s); got != entry(3).ID {
		t.Error("a later claim did not become current")
	}
	served, err := beginOne(t, s, entry(4), func(c store.Entry) bool { return c.ID == entry(3).ID })
	if err != nil || served.ID != entry(3).ID {
		t.Errorf("Begin() of what is served = %s, %v", served.ID, err)
	}
	if _, err := s.Get(t.Context(), entry(4).ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it was stored all the same: %v", err)
	}
}

// superseded are the manifests that are to be deleted.
func superseded(t *testing.T, s store.Store, before time.Time) []string {
	t.Helper()
	var out []string
	for after := ""; ; {
		page, err := s.Superseded(t.Context(), before, after, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			slices.Sort(out)
			return out
		}
		if page[0].Bundle != nil || page[0].Manifest != nil {
			t.Error("Superseded returned a bundle")
		}
		after = page[0].ID
		out = append(out, page[0].ManifestDigest)
	}
}

// thereAndBack is content A, then B, then A again: the last one is in force.
func thereAndBack(t *testing.T, s store.Store) {
	t.Helper()
	first, second, third := entry(1), entry(2), entry(1)
	third.ClaimTime = epoch.Add(time.Hour)
	third = reset(third)
	for i, e := range []store.Entry{first, second, third} {
		finish(t, s, begin(t, s, e), digest(11+i))
		if got := current(t, s); got != e.ID {
			t.Errorf("after %d current is another", i+1)
		}
	}
	if diff := cmp.Diff([]string{digest(11), digest(12)}, superseded(t, s, epoch.Add(2*time.Hour))); diff != "" {
		t.Errorf("superseded (-want +got):\n%s", diff)
	}
	if got := superseded(t, s, epoch.Add(time.Hour)); got != nil {
		t.Errorf("superseded at the very moment: %v", got)
	}
	known, err := s.Known(t.Context(), first.Line)
	if err != nil || len(known) != 3 || !known[digest(12)] {
		t.Errorf("Known() = %v, %v", known, err)
	}
}

// lateIsSuperseded: what is finished after a later one never was in force.
func lateIsSuperseded(t *testing.T, s store.Store) {
	t.Helper()
	late := begin(t, s, entry(1))
	other := entry(3)
	other.PredicateType = "https://other.example"
	other = reset(other)
	finish(t, s, begin(t, s, other), digest(13))
	finish(t, s, begin(t, s, entry(2)), digest(12))
	finish(t, s, late, digest(11))
	if diff := cmp.Diff([]string{digest(11)}, superseded(t, s, epoch.Add(2*time.Hour))); diff != "" {
		t.Errorf("superseded (-want +got):\n%s", diff)
	}
}

func removals(t *testing.T, s store.Store) {
	t.Helper()
	for n := range 4 {
		e := entry(n)
		stored, err := beginOne(t, s, e, never)
		if err != nil {
			t.Fatal(err)
		}
		finish(t, s, stored, digest(10+n))
	}
	for n, r := range []store.Removal{store.Deleted, store.Kept} {
		if err := s.SetRemoval(t.Context(), entry(n).ID, r); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{digest(12)}, superseded(t, s, epoch.Add(2*time.Hour))); diff != "" {
		t.Errorf("left to delete (-want +got):\n%s", diff)
	}
	listed, err := s.List(t.Context(), store.Query{SubjectDigest: digest(1), Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	var manifests []string
	for _, e := range listed {
		manifests = append(manifests, e.ManifestDigest)
		if e.SupersededTime.IsZero() != (e.ManifestDigest == digest(13)) {
			t.Errorf("%s superseded at %v", e.ManifestDigest, e.SupersededTime)
		}
	}
	if diff := cmp.Diff([]string{digest(13), digest(12), digest(11)}, manifests); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
}

func rotate(t *testing.T, s store.Store) {
	t.Helper()
	if _, err := s.Rotated(t.Context(), "r1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Rotated() of nothing = %v, want ErrNotFound", err)
	}
	if err := s.AddKey(t.Context(), store.SigningKey{ID: "a", PublicPEM: "pem a", SeenTime: epoch}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Revoke(t.Context(), "a", epoch); !errors.Is(err, store.ErrInUse) {
		t.Errorf("Revoke() of the key in use = %v, want ErrInUse", err)
	}
	if _, err := s.Revoke(t.Context(), "x", epoch); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Revoke() of no key = %v, want ErrNotFound", err)
	}
	// Eight replicas carry out one request, each with a key of its own.
	const replicas = 8
	got := make([]string, replicas)
	end := epoch.Add(time.Hour)
	var wg sync.WaitGroup
	for i := range replicas {
		wg.Go(func() {
			k, err := s.Rotate(t.Context(), "r1", store.SigningKey{ID: fmt.Sprint("b", i), PublicPEM: "pem", SeenTime: epoch.Add(time.Minute)}, end)
			if err != nil {
				t.Error(err)
			}
			got[i] = k.ID
		})
	}
	wg.Wait()
	all, err := s.Keys(t.Context())
	if err != nil || len(all) != 2 || len(slices.Compact(got)) != 1 || all[0].ID != got[0] {
		t.Fatalf("keys = %v, %v; the replicas got %v", all, err, got)
	}
	if !all[0].InUse() || all[1].InUse() || !all[1].EndTime.Equal(end) {
		t.Errorf("keys = %v", all)
	}
	if k, err := s.Rotated(t.Context(), "r1"); err != nil || k.ID != got[0] {
		t.Errorf("Rotated() = %v, %v", k, err)
	}
	for _, at := range []time.Time{end, end.Add(time.Hour)} { // the first stands
		if k, err := s.Revoke(t.Context(), "a", at); err != nil || !k.RevokeTime.Equal(end) {
			t.Errorf("Revoke() = %v, %v", k, err)
		}
	}
}
