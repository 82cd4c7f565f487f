package evidence_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/evidence"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/identity"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/registrytest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// fixture is a registry, a log and a key, which outlive the writers on them.
type fixture struct {
	registry *registrytest.Registry
	store    store.Store
	key      *keystore.Key
	roots    attest.TrustRoots
	clock    time.Time
}

func newFixture(tb testing.TB, referrersAPI bool) *fixture {
	tb.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	key, err := keystore.New(private)
	if err != nil {
		tb.Fatal(err)
	}
	return &fixture{
		registry: registrytest.Start(tb, referrersAPI), store: newStore(tb), key: key,
		roots: attest.TrustRoots{Keys: []attest.TrustedKey{{Key: key.Public(), ID: key.KeyID()}}},
		clock: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}
}

// Current and Trusted make the fixture the keys of its writers.
func (f *fixture) Current(context.Context) (keystore.Identity, error) { return f.key, nil }

func (f *fixture) Trusted(context.Context) ([]attest.TrustedKey, error) { return f.roots.Keys, nil }

func newStore(tb testing.TB) store.Store {
	tb.Helper()
	db, err := sqldb.Open(tb.Context(), sqldb.Config{Driver: sqldb.SQLite, DSN: filepath.Join(tb.TempDir(), "signer.db")}, store.Schema)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	s, err := store.New(tb.Context(), db)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func (f *fixture) now() time.Time { return f.clock }

// writer is a signer that has just started; each one's clock is an hour on.
func (f *fixture) writer(tb testing.TB, s store.Store) *evidence.Writer {
	tb.Helper()
	f.clock = f.clock.Add(time.Hour)
	now := f.clock
	w, err := evidence.New(s, f.registry.Client(), []identity.Identity{identity.NewKeyed("", f, nil)}, maxAge, obs.Discard("signer"), func() time.Time { return now })
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

const maxAge = 24 * time.Hour

// start is when the claims were found to be true.
var start = time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC)

// claims are three claims made at an occasion; the content is always the same.
func claims(occasion string) []core.Predicate {
	key := core.Digest([]byte("report"))
	out := []core.Predicate{
		{Type: core.PredicateSPDX, ContentKey: core.Digest([]byte("spdx")), JSON: json.RawMessage(`{"spdxVersion":"SPDX-2.3"}`)},
		{Type: core.PredicateVulnsV02, ContentKey: key, JSON: json.RawMessage(`{"scanner":{"result":[]},"invocation":{"producer":"` + occasion + `"}}`)},
		{Type: core.PredicateCosignVuln, ContentKey: key, JSON: json.RawMessage(`{"scanner":{"result":{}},"invocation":{"producer":"` + occasion + `"}}`)},
	}
	for i := range out {
		out[i].Time = start
	}
	return out
}

func attach(t *testing.T, w *evidence.Writer, ref imageref.Ref) []evidence.Attached {
	t.Helper()
	got, err := w.Attach(t.Context(), ref, claims("first"))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// check checks that the registry holds exactly what the writer returned.
func (f *fixture) check(t *testing.T, ref imageref.Ref, attached []evidence.Attached) {
	t.Helper()
	want, got := map[string]string{}, map[string]string{}
	for _, a := range attached {
		want[a.ManifestDigest] = a.PredicateType
	}
	for _, v := range f.registry.Attestations(ref, f.roots) {
		got[v.ManifestDigest] = v.PredicateType
	}
	if diff := cmp.Diff(want, got); diff != "" || len(attached) != 3 {
		t.Errorf("attestations in the registry (-returned +found):\n%s", diff)
	}
	entries, err := f.store.List(t.Context(), store.Query{SubjectDigest: ref.Digest, Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	logged := map[string]string{}
	for _, e := range entries {
		logged[e.ManifestDigest] = e.PredicateType
	}
	if diff := cmp.Diff(want, logged); diff != "" {
		t.Errorf("signing log (-returned +logged):\n%s", diff)
	}
}

func eachKind(t *testing.T, f func(t *testing.T, f *fixture)) {
	t.Helper()
	t.Run("referrers API", func(t *testing.T) { f(t, newFixture(t, true)) })
	t.Run("referrers tag", func(t *testing.T) { f(t, newFixture(t, false)) })
}

func TestWriter_FiveTimesIsOnce(t *testing.T) {
	eachKind(t, func(t *testing.T, f *fixture) {
		t.Helper()
		ref := f.registry.PushImage("team/app")
		first := attach(t, f.writer(t, f.store), ref)
		for range 4 {
			if diff := cmp.Diff(first, attach(t, f.writer(t, f.store), ref)); diff != "" {
				t.Errorf("attached again (-first +now):\n%s", diff)
			}
		}
		f.check(t, ref, first)
	})
}

func TestWriter_CrashBeforeAttaching(t *testing.T) {
	eachKind(t, func(t *testing.T, f *fixture) {
		t.Helper()
		ref := f.registry.PushImage("team/app")
		f.registry.Fail(registrytest.RefuseManifests)
		if _, err := f.writer(t, f.store).Attach(t.Context(), ref, claims("first")); !errors.Is(err, registry.ErrRejected) {
			t.Fatalf("Attach() = %v, want ErrRejected", err)
		}
		f.registry.Fail(nil)
		if got := f.registry.Attestations(ref, f.roots); len(got) != 0 {
			t.Fatalf("%d attestations although the registry took none", len(got))
		}
		intent, err := f.store.Current(t.Context(), lineOf(ref, claims("first")[0]))
		if err != nil || intent.Done() {
			t.Fatalf("intent = %+v, %v", intent, err)
		}
		if intent, err = f.store.Get(t.Context(), intent.ID); err != nil {
			t.Fatal(err)
		}
		got := attach(t, f.writer(t, f.store), ref)
		f.check(t, ref, got)
		done, err := f.store.Get(t.Context(), intent.ID)
		if err != nil || !done.Done() {
			t.Fatalf("entry = %+v, %v", done, err)
		}
		if string(done.Manifest) != string(intent.Manifest) {
			t.Error("it was signed again after the crash")
		}
	})
}

func lineOf(ref imageref.Ref, p core.Predicate) store.Line {
	return store.Line{
		Registry: ref.Registry, Repository: ref.Repository, SubjectDigest: ref.Digest, PredicateType: p.Type,
	}
}

// forgetful loses the record that an attestation is done.
type forgetful struct{ store.Store }

var errCrash = errors.New("crash")

func (forgetful) Finish(context.Context, []store.Finished, time.Time) error { return errCrash }

func TestWriter_CrashBeforeDone(t *testing.T) {
	eachKind(t, func(t *testing.T, f *fixture) {
		t.Helper()
		ref := f.registry.PushImage("team/app")
		if _, err := f.writer(t, forgetful{f.store}).Attach(t.Context(), ref, claims("first")); !errors.Is(err, errCrash) {
			t.Fatalf("Attach() = %v, want the crash", err)
		}
		f.check(t, ref, attach(t, f.writer(t, f.store), ref))
	})
}

func TestWriter_LostLogFindsItsOwn(t *testing.T) {
	f := newFixture(t, true)
	ref := f.registry.PushImage("team/app")
	first := attach(t, f.writer(t, f.store), ref)
	f.store = newStore(t)
	got, err := f.writer(t, f.store).Attach(t.Context(), ref, claims("another time"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, got); diff != "" {
		t.Errorf("attached after the loss (-before +after):\n%s", diff)
	}
	f.check(t, ref, got)
}

func TestWriter_LostLogIgnoresOthers(t *testing.T) {
	f := newFixture(t, true)
	ref := f.registry.PushImage("team/app")
	attach(t, f.writer(t, f.store), ref)
	stranger := newFixture(t, true)
	stranger.registry = f.registry
	got := attach(t, stranger.writer(t, stranger.store), ref)
	both := attest.TrustRoots{Keys: append(f.roots.Keys, stranger.roots.Keys...)}
	if n := len(f.registry.Attestations(ref, both)); n != 6 || len(got) != 3 {
		t.Errorf("%d attestations of two keys, want 6", n)
	}
}

func TestWriter_DeletedIsRestored(t *testing.T) {
	eachKind(t, func(t *testing.T, f *fixture) {
		t.Helper()
		ref := f.registry.PushImage("team/app")
		first := attach(t, f.writer(t, f.store), ref)
		f.registry.Delete(ref, first[1].ManifestDigest)
		got := attach(t, f.writer(t, f.store), ref)
		if diff := cmp.Diff(first, got); diff != "" {
			t.Errorf("restored (-before +after):\n%s", diff)
		}
		f.check(t, ref, got)
	})
}

func TestWriter_NewContentIsAdded(t *testing.T) {
	f := newFixture(t, true)
	ref := f.registry.PushImage("team/app")
	w := f.writer(t, f.store)
	attach(t, w, ref)
	more := claims("second")[1]
	more.ContentKey, more.JSON = core.Digest([]byte("other report")), json.RawMessage(`{"scanner":{"result":[{"id":"CVE-1"}]}}`)
	if _, err := w.Attach(t.Context(), ref, []core.Predicate{more}); err != nil {
		t.Fatal(err)
	}
	if n := len(f.registry.Attestations(ref, f.roots)); n != 4 {
		t.Errorf("%d attestations, want 4", n)
	}
}

func TestWriter_TwoProcessesAtOnce(t *testing.T) {
	eachKind(t, func(t *testing.T, f *fixture) {
		t.Helper()
		ref := f.registry.PushImage("team/app")
		writers := []*evidence.Writer{f.writer(t, f.store), f.writer(t, f.store)}
		got := make([][]evidence.Attached, len(writers))
		var wg sync.WaitGroup
		for i, w := range writers {
			wg.Go(func() {
				var err error
				if got[i], err = w.Attach(t.Context(), ref, claims("first")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if diff := cmp.Diff(got[0], got[1]); diff != "" {
			t.Errorf("two processes attached different things:\n%s", diff)
		}
		f.check(t, ref, got[0])
	})
}

func TestWriter_Failures(t *testing.T) {
	swallow := func(req *http.Request) int {
		if req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/manifests/") {
			return http.StatusCreated
		}
		return 0
	}
	tests := []struct {
		name  string
		fault registrytest.Fault
		want  error
	}{
		{"down", registrytest.Down, registry.ErrUnavailable},
		{"unauthorized", registrytest.DenyWrites(http.StatusUnauthorized), registry.ErrUnauthorized},
		{"forbidden", registrytest.DenyWrites(http.StatusForbidden), registry.ErrUnauthorized},
		{"read only", registrytest.DenyWrites(http.StatusMethodNotAllowed), registry.ErrRejected},
		{"slow down", registrytest.DenyWrites(http.StatusTooManyRequests), registry.ErrUnavailable},
		{"says it wrote", swallow, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, true)
			ref := f.registry.PushImage("team/app")
			f.registry.Fail(tt.fault)
			_, err := f.writer(t, f.store).Attach(t.Context(), ref, claims("first"))
			if err == nil || (tt.want != nil && !errors.Is(err, tt.want)) {
				t.Fatalf("Attach() = %v, want %v", err, tt.want)
			}
			done, err := f.store.List(t.Context(), store.Query{SubjectDigest: ref.Digest, Limit: 10})
			if err != nil || len(done) != 0 {
				t.Errorf("marked as done: %v, %v", done, err)
			}
			f.registry.Fail(nil)
			f.check(t, ref, attach(t, f.writer(t, f.store), ref))
		})
	}
}

func TestWriter_NoSubject(t *testing.T) {
	f := newFixture(t, true)
	ref := f.registry.PushImage("team/app").WithDigest(core.Digest([]byte("nothing")))
	if _, err := f.writer(t, f.store).Attach(t.Context(), ref, claims("first")); !errors.Is(err, evidence.ErrNoSubject) {
		t.Errorf("Attach() = %v, want ErrNoSubject", err)
	}
}
