package evidence_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/evidence"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/identity"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/registrytest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// current is the log's entry that is in force for a claim.
func (f *fixture) current(t *testing.T, ref imageref.Ref, p core.Predicate) store.Entry {
	t.Helper()
	e, err := f.store.Current(t.Context(), lineOf(ref, p))
	if err != nil {
		t.Fatal(err)
	}
	if e, err = f.store.Get(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	return e
}

// collected has the registry collect the blobs of entries as garbage.
func collected(t *testing.T, entries ...store.Entry) registrytest.Fault {
	t.Helper()
	gone := map[string]bool{}
	for _, e := range entries {
		var m struct {
			Layers []registry.Descriptor `json:"layers"`
		}
		if err := json.Unmarshal(e.Manifest, &m); err != nil {
			t.Fatal(err)
		}
		gone[m.Layers[0].Digest] = true
	}
	return func(r *http.Request) int {
		if _, digest, ok := strings.Cut(r.URL.Path, "/blobs/"); ok && gone[digest] {
			return http.StatusNotFound
		}
		return 0
	}
}

// TestWriter_CollectedIntent: between the intent and a later attempt the registry
// collected the bundles, which nothing referred to. They are signed anew, once.
func TestWriter_CollectedIntent(t *testing.T) {
	eachKind(t, func(t *testing.T, f *fixture) {
		t.Helper()
		ref := f.registry.PushImage("team/app")
		f.registry.Fail(registrytest.RefuseManifests)
		if _, err := f.writer(t, f.store).Attach(t.Context(), ref, claims("first")); !errors.Is(err, registry.ErrRejected) {
			t.Fatalf("Attach() = %v, want ErrRejected", err)
		}
		intent := f.current(t, ref, claims("first")[0])
		f.registry.Fail(collected(t, intent))
		got := attach(t, f.writer(t, f.store), ref)
		f.check(t, ref, got)
		if again := f.current(t, ref, claims("first")[0]); string(again.Manifest) == string(intent.Manifest) || !again.Done() {
			t.Error("the bundle that is gone still stands in the log")
		}
	})
}

// TestWriter_CollectedAndDeleted: somebody deleted the attestations and the registry
// collected their bundles. The same fact attaches them again; an older one, which
// cannot know what they said, its own.
func TestWriter_CollectedAndDeleted(t *testing.T) {
	for name, occasion := range map[string]int{"the same fact": 0, "an older one": -1} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, true)
			ref := f.registry.PushImage("team/app")
			first := attach(t, f.writer(t, f.store), ref)
			var all []store.Entry
			for i, p := range claims("first") {
				all = append(all, f.current(t, ref, p))
				f.registry.Delete(ref, first[i].ManifestDigest)
			}
			f.registry.Fail(collected(t, all...))
			again := claims("first")
			for i := range again {
				again[i].Time = again[i].Time.AddDate(0, 0, occasion)
				if occasion != 0 {
					again[i].ContentKey = core.Digest([]byte("older"))
				}
			}
			got, err := f.writer(t, f.store).Attach(t.Context(), ref, again)
			if err != nil {
				t.Fatal(err)
			}
			f.check(t, ref, got)
			if cmp.Equal(first, got) {
				t.Error("what is gone was called attached")
			}
		})
	}
}

// TestWriter_OldRows: an intent of a release that kept the bundle in the log is
// finished with that very bundle.
func TestWriter_OldRows(t *testing.T) {
	eachKind(t, func(t *testing.T, f *fixture) {
		t.Helper()
		ref := f.registry.PushImage("team/app")
		p := claims("first")[0]
		bundle, err := attest.Sign(t.Context(), f.key.Signer(), f.key.Public(), attest.Statement{
			Subject:       []attest.Subject{{Name: "app", SHA256: strings.TrimPrefix(ref.Digest, "sha256:")}},
			PredicateType: p.Type, Predicate: p.JSON,
		})
		if err != nil {
			t.Fatal(err)
		}
		k := store.Key{Line: lineOf(ref, p), ContentKey: p.ContentKey}
		old := store.Entry{ID: store.ID(k, p.Time, f.key.KeyID()), Key: k, ClaimTime: p.Time, KeyID: f.key.KeyID(), Bundle: bundle, SignTime: start}
		if _, err := f.store.Begin(t.Context(), []store.Entry{old}, func(int, store.Entry) bool { return false }); err != nil {
			t.Fatal(err)
		}
		f.check(t, ref, attach(t, f.writer(t, f.store), ref))
		found, err := attest.Fetch(t.Context(), f.registry.Client(), ref, attest.Limits{PredicateTypes: []string{p.Type}})
		if err != nil || len(found) != 1 || string(found[0].Bundle) != string(bundle) {
			t.Errorf("%d attestations, %v; want the one that was signed before", len(found), err)
		}
	})
}

// failing signs some and then no more.
type failing struct {
	identity.Identity
	no string
}

var errNoKey = errors.New("the key is away")

func (i failing) Sign(ctx context.Context, p attest.Payload) (identity.Signed, error) {
	if p.PredicateType() == i.no {
		return identity.Signed{}, errNoKey
	}
	return i.Identity.Sign(ctx, p)
}

// TestWriter_SignedIsKept: what was signed before another signature failed is not
// signed again.
func TestWriter_SignedIsKept(t *testing.T) {
	f := newFixture(t, true)
	ref := f.registry.PushImage("team/app")
	p := claims("first")
	some := failing{identity.NewKeyed("", f, nil), p[2].Type}
	w, err := evidence.New(f.store, f.registry.Client(), []identity.Identity{some}, maxAge, obs.Discard("signer"), f.now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Attach(t.Context(), ref, p[:2]); err != nil {
		t.Fatal(err)
	}
	other := f.registry.PushImage("team/app")
	for {
		if _, err := w.Attach(t.Context(), other, p); !errors.Is(err, errNoKey) {
			t.Fatalf("Attach() = %v", err)
		}
		e, err := f.store.Current(t.Context(), lineOf(other, p[0]))
		if errors.Is(err, store.ErrNotFound) {
			continue // the failure was first
		}
		if err != nil {
			t.Fatal(err)
		}
		f.check(t, other, attach(t, f.writer(t, f.store), other))
		if done := f.current(t, other, p[0]); done.ID != e.ID || !done.SignTime.Equal(e.SignTime) {
			t.Error("it was signed again")
		}
		return
	}
}

// TestWriter_Requests counts what one image with three attestations costs in a
// repository that is known: three questions about the image, which is listed in two
// places, for each attestation
// an upload in two requests, its manifest, and both read back, and one question for
// the list, which is found in the first place.
func TestWriter_Requests(t *testing.T) {
	f := newFixture(t, true)
	w := f.writer(t, f.store)
	attach(t, w, f.registry.PushImage("team/app"))
	ref := f.registry.PushImage("team/app")
	got := make(chan string, 100)
	f.registry.Fail(func(r *http.Request) int {
		got <- r.Method
		return 0
	})
	attach(t, w, ref)
	close(got)
	count := map[string]int{}
	for m := range got {
		count[m]++
	}
	want := map[string]int{http.MethodHead: 1, http.MethodGet: 3 + 3*2, http.MethodPost: 3, http.MethodPut: 3 * 2}
	if diff := cmp.Diff(want, count); diff != "" {
		t.Errorf("requests (-want +made):\n%s", diff)
	}
}
