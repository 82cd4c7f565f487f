package evidence_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/evidence"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/registrytest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

const (
	grace = 7 * 24 * time.Hour
	day   = 24 * time.Hour
)

// finding is the claim that a scan, so long after start, found content.
func finding(content string, after time.Duration) core.Predicate {
	at := start.Add(after)
	return core.Predicate{
		Type: core.PredicateCosignVuln, ContentKey: core.Digest([]byte(content)), Time: at,
		JSON: json.RawMessage(`{"scanner":{"result":{"found":"` + content + `"}},"metadata":{"scanFinishedOn":"` + at.Format(time.RFC3339) + `"}}`),
	}
}

func (f *fixture) attachOne(t *testing.T, ref imageref.Ref, p core.Predicate) string {
	t.Helper()
	if f.clock.Before(p.Time) {
		f.clock = p.Time
	}
	got, err := f.writer(t, f.store).Attach(t.Context(), ref, []core.Predicate{p})
	if err != nil {
		t.Fatal(err)
	}
	return got[0].ManifestDigest
}

func (f *fixture) sweeper(at time.Time, keep ...string) *evidence.Sweeper {
	return &evidence.Sweeper{
		Store: f.store, Registry: f.registry.Client(), Grace: grace, Keep: keep,
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return at },
	}
}

func (f *fixture) sweep(t *testing.T, at time.Time, want int, keep ...string) {
	t.Helper()
	if n, err := f.sweeper(at, keep...).Sweep(t.Context()); err != nil || n != want {
		t.Errorf("Sweep() = %d, %v, want %d", n, err, want)
	}
}

// newest is the manifest a verifier would take: the latest by its own words.
func (f *fixture) newest(ref imageref.Ref) (string, int) {
	var newest *attest.Verified
	all := f.registry.Attestations(ref, f.roots)
	for _, v := range all {
		if newest == nil || attest.StatedTime(v.Statement).After(attest.StatedTime(newest.Statement)) {
			newest = v
		}
	}
	return newest.ManifestDigest, len(all)
}

func TestWriter_SameFindingsUntilMaxAge(t *testing.T) {
	eachKind(t, func(t *testing.T, f *fixture) {
		t.Helper()
		ref := f.registry.PushImage("team/app")
		first := f.attachOne(t, ref, finding("A", 0))
		if got := f.attachOne(t, ref, finding("A", maxAge-time.Second)); got != first {
			t.Error("the same findings made a new attestation before max_age")
		}
		second := f.attachOne(t, ref, finding("A", maxAge))
		if second == first {
			t.Error("the same findings made no new attestation after max_age")
		}
		if got, n := f.newest(ref); got != second || n != 2 {
			t.Errorf("newest = %s of %d, want the second of 2", got, n)
		}
		f.sweep(t, f.clock.Add(grace+time.Hour), 1)
		if got, n := f.newest(ref); got != second || n != 1 {
			t.Errorf("after the grace period: newest = %s of %d, want the second alone", got, n)
		}
		f.sweep(t, f.clock.Add(grace+time.Hour), 0)
		if got := f.attachOne(t, ref, finding("A", maxAge+time.Minute)); got != second {
			t.Error("what was superseded came back")
		}
	})
}

// summary is the claim of a verdict, so long after start.
func summary(t *testing.T, ref imageref.Ref, digest string, outcome core.Outcome, after time.Duration) core.Predicate {
	t.Helper()
	out, err := core.VSAs(core.Verdict{
		Digest: digest, ImageDigest: ref.Digest, Outcome: outcome, EvaluateTime: start.Add(after),
		Platforms: []core.PlatformVerdict{{Digest: ref.Digest, Outcome: outcome, Policies: []core.Policy{{Name: "baseline", Digest: digest}}}},
	}, ref.Name(), "https://seaworthy.dev/verifier")
	if err != nil {
		t.Fatal(err)
	}
	return out[0].Predicate
}

// TestWriter_LifetimeOfVerdicts: the summary of the latest verdict is in force,
// whatever order the verdicts come in; the same verdict is renewed with age; what
// was superseded goes, and a verdict that is reached again is there again.
func TestWriter_LifetimeOfVerdicts(t *testing.T) {
	eachKind(t, func(t *testing.T, f *fixture) {
		t.Helper()
		ref := f.registry.PushImage("team/app")
		pass, fail := core.Digest([]byte("pass")), core.Digest([]byte("fail"))
		steps := []struct {
			name    string
			digest  string
			outcome core.Outcome
			after   time.Duration
			fresh   bool // it is attached; else what was there stays
			count   int
		}{
			{"first", pass, core.Pass, 0, true, 1},
			{"delivered again", pass, core.Pass, 0, false, 1},
			{"the same, evaluated later", pass, core.Pass, maxAge - time.Second, false, 1},
			{"another one", fail, core.Fail, time.Hour, true, 2},
			{"the first one, late", pass, core.Pass, 0, false, 2},
			{"as the first one, again", pass, core.Pass, 2 * time.Hour, true, 3},
			{"the same, old", pass, core.Pass, 2*time.Hour + maxAge, true, 4},
		}
		last := ""
		for _, s := range steps {
			got := f.attachOne(t, ref, summary(t, ref, s.digest, s.outcome, s.after))
			if (got != last) != s.fresh {
				t.Errorf("%s: %s after %s", s.name, got, last)
			}
			last = got
			if newest, n := f.newest(ref); newest != last || n != s.count {
				t.Errorf("%s: newest = %s of %d, want %s of %d", s.name, newest, n, last, s.count)
			}
		}
		f.sweep(t, f.clock.Add(grace+time.Hour), 3)
		if newest, n := f.newest(ref); newest != last || n != 1 {
			t.Errorf("after the grace period: %s of %d, want the last alone", newest, n)
		}
	})
}

// TestWriter_ThereAndBack: content A, then B, then A again must end with A as the newest.
func TestWriter_ThereAndBack(t *testing.T) {
	eachKind(t, func(t *testing.T, f *fixture) {
		t.Helper()
		ref := f.registry.PushImage("team/app")
		a := f.attachOne(t, ref, finding("A", 0))
		b := f.attachOne(t, ref, finding("B", time.Minute))
		if got := f.attachOne(t, ref, finding("A", 0)); got != b {
			t.Error("the first fact, delivered again, took the place of the second")
		}
		again := f.attachOne(t, ref, finding("A", 2*time.Minute))
		if got, _ := f.newest(ref); got != again || again == a || again == b {
			t.Errorf("newest = %s, want the third %s", got, again)
		}
		f.sweep(t, f.clock.Add(grace+time.Hour), 2)
		if got, n := f.newest(ref); got != again || n != 1 {
			t.Errorf("newest = %s of %d, want the third alone", got, n)
		}
	})
}

func TestSweeper_LeavesOthersAlone(t *testing.T) {
	eachKind(t, func(t *testing.T, f *fixture) {
		t.Helper()
		ref := f.registry.PushImage("team/app")
		stranger := newFixture(t, true)
		stranger.registry = f.registry
		theirs := stranger.attachOne(t, ref, finding("A", 0))
		f.attachOne(t, ref, finding("A", 0))
		ours := f.attachOne(t, ref, finding("B", time.Minute))
		f.sweep(t, f.clock.Add(grace+time.Hour), 1)
		both := attest.TrustRoots{Keys: append(f.roots.Keys, stranger.roots.Keys...)}
		left := map[string]bool{}
		for _, v := range f.registry.Attestations(ref, both) {
			left[v.ManifestDigest] = true
		}
		if len(left) != 2 || !left[theirs] || !left[ours] {
			t.Errorf("left %v, want theirs %s and ours %s", left, theirs, ours)
		}
	})
}

func TestSweeper_Grace(t *testing.T) {
	f := newFixture(t, true)
	ref := f.registry.PushImage("team/app")
	f.attachOne(t, ref, finding("A", 0))
	f.attachOne(t, ref, finding("B", time.Minute))
	f.sweep(t, f.clock.Add(grace), 0)
	f.sweep(t, f.clock.Add(grace+time.Hour), 0, f.registry.Host)
	f.sweep(t, f.clock.Add(grace+time.Hour), 1)
}

func TestSweeper_RegistryForbids(t *testing.T) {
	f := newFixture(t, false)
	ref := f.registry.PushImage("team/app")
	f.attachOne(t, ref, finding("A", 0))
	f.attachOne(t, ref, finding("B", time.Minute))
	deletes := 0
	refuse := func(status int) registrytest.Fault {
		return func(req *http.Request) int {
			if req.Method == http.MethodDelete {
				deletes++
				return status
			}
			return 0
		}
	}
	f.registry.Fail(refuse(http.StatusForbidden))
	if _, err := f.sweeper(f.clock.Add(grace + time.Hour)).Sweep(t.Context()); err == nil {
		t.Error("no error although it may not delete")
	}
	f.registry.Fail(refuse(http.StatusMethodNotAllowed))
	f.sweep(t, f.clock.Add(grace+time.Hour), 0)
	f.sweep(t, f.clock.Add(grace+time.Hour), 0) // it is not asked again
	f.registry.Fail(nil)
	if _, n := f.newest(ref); n != 2 || deletes != 2 {
		t.Errorf("%d attestations after %d deletes, want 2 after 2", n, deletes)
	}
	listed, err := f.store.List(t.Context(), store.Query{SubjectDigest: ref.Digest, Limit: 10})
	if err != nil || len(listed) != 2 {
		t.Errorf("the log lists %d, %v: what is there must be listed", len(listed), err)
	}
}

// TestSweeper_CrashBetweenAttachAndDone: what no log row is done for is found when
// the next one is made, and superseded like any other.
func TestSweeper_CrashBetweenAttachAndDone(t *testing.T) {
	eachKind(t, func(t *testing.T, f *fixture) {
		t.Helper()
		ref := f.registry.PushImage("team/app")
		_, err := f.writer(t, forgetful{f.store}).Attach(t.Context(), ref, []core.Predicate{finding("A", 0)})
		if !errors.Is(err, errCrash) {
			t.Fatalf("Attach() = %v, want the crash", err)
		}
		b := f.attachOne(t, ref, finding("B", time.Minute))
		f.sweep(t, f.clock.Add(grace+time.Hour), 1)
		if got, n := f.newest(ref); got != b || n != 1 {
			t.Errorf("newest = %s of %d, want the second alone", got, n)
		}
	})
}

func TestWriter_LostLogSupersedesItsOwn(t *testing.T) {
	f := newFixture(t, true)
	ref := f.registry.PushImage("team/app")
	f.attachOne(t, ref, finding("A", 0))
	b := f.attachOne(t, ref, finding("B", time.Minute))
	f.store = newStore(t)
	if got := f.attachOne(t, ref, finding("B", time.Hour)); got != b {
		t.Errorf("attached %s, want the one that is there", got)
	}
	f.sweep(t, f.clock.Add(grace+time.Hour), 1)
	if got, n := f.newest(ref); got != b || n != 1 {
		t.Errorf("newest = %s of %d, want the second alone", got, n)
	}
}

func TestSweeper_StopsWithItsContext(t *testing.T) {
	f := newFixture(t, true)
	ref := f.registry.PushImage("team/app")
	f.attachOne(t, ref, finding("A", 0))
	f.attachOne(t, ref, finding("A", day))
	s := f.sweeper(f.clock.Add(grace + time.Hour))
	s.Interval = time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- s.Run(ctx) }()
	for {
		left, err := f.store.List(t.Context(), store.Query{SubjectDigest: ref.Digest, Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 1 {
			break
		}
		if ctx.Err() != nil {
			t.Fatal("nothing was deleted")
		}
	}
	cancel()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
