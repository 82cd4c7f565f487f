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
	return store.Entry{
		Key: store.Key{
			Registry: "registry.example:5000", Repository: "team/app", SubjectDigest: digest(1),
			PredicateType: "https://spdx.dev/Document", ContentKey: digest(n),
		},
		ContentDigest: digest(50), KeyID: "key", Bundle: fmt.Appendf(nil, `{"n":%d}`, n),
		SignTime: epoch.Add(time.Duration(n) * time.Second), TraceID: "trace",
	}
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
		"List":                list,
		"ListPages":           listPages,
		"Keys":                keys,
		"FinishAgainReplaces": finishAgainReplaces,
	} {
		t.Run(name, func(t *testing.T) { f(t, fresh(t)) })
	}
}

func getOfNothing(t *testing.T, s store.Store) {
	t.Helper()
	if _, err := s.Get(t.Context(), entry(1).Key); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get() = %v, want ErrNotFound", err)
	}
	if err := s.Finish(t.Context(), entry(1).Key, digest(9), epoch); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Finish() = %v, want ErrNotFound", err)
	}
}

func begin(t *testing.T, s store.Store, e store.Entry) store.Entry {
	t.Helper()
	got, err := s.Begin(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func finish(t *testing.T, s store.Store, e store.Entry, manifest string) {
	t.Helper()
	if err := s.Finish(t.Context(), e.Key, manifest, epoch.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
}

func intentThenDone(t *testing.T, s store.Store) {
	t.Helper()
	want := entry(1)
	if diff := cmp.Diff(want, begin(t, s, want)); diff != "" {
		t.Errorf("Begin() (-want +got):\n%s", diff)
	}
	got, err := s.Get(t.Context(), want.Key)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" || got.Done() {
		t.Errorf("intent (-want +got):\n%s", diff)
	}
	finish(t, s, want, digest(9))
	want.ManifestDigest, want.DoneTime = digest(9), epoch.Add(time.Hour)
	got, err = s.Get(t.Context(), want.Key)
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
	other.Bundle, other.TraceID = []byte("other"), "other"
	if diff := cmp.Diff(first, begin(t, s, other)); diff != "" {
		t.Errorf("the second Begin (-first +second):\n%s", diff)
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
			e.Bundle = fmt.Appendf(nil, "writer %d", i)
			stored, err := s.Begin(t.Context(), e)
			if err != nil {
				t.Error(err)
				return
			}
			got[i] = string(stored.Bundle)
		})
	}
	wg.Wait()
	if slices.Sort(got); len(slices.Compact(got)) != 1 {
		t.Errorf("writers got different bundles: %q", got)
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
		"boundary":   func(k *store.Key) { k.Registry, k.Repository = k.Registry+"t", k.Repository[1:] },
	} {
		k := base.Key
		change(&k)
		if _, err := s.Get(t.Context(), k); !errors.Is(err, store.ErrNotFound) {
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
	got, err := s.Get(t.Context(), e.Key)
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
	finish(t, s, begin(t, s, other), digest(20))
	elsewhere := entry(6)
	elsewhere.SubjectDigest = digest(2)
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
			if e.Bundle != nil {
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
		q.After = &store.Cursor{SignTime: last.SignTime, ID: last.ID()}
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
	got, err := s.Get(t.Context(), e.Key)
	if err != nil {
		t.Fatal(err)
	}
	if got.ManifestDigest != digest(8) {
		t.Errorf("manifest = %s, want the second", got.ManifestDigest)
	}
}
