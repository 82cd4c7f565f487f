package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

const patience = 6 * time.Hour

// numbered is one of several images.
func numbered(n int) imageref.Ref {
	i := image
	i.Digest = fmt.Sprintf("sha256:%064x", n)
	return i
}

// scan is a scan of an image without platforms that ended at a time.
func scan(i imageref.Ref, at time.Time, content string) store.Scan {
	return store.Scan{Image: i, Time: at, Contents: map[string]string{i.Digest: content}}
}

// passed is a PASS by a report of a scan.
func passed(i imageref.Ref, at time.Time, content, key string, after int64) store.NewVerdict {
	v := verdict(i, core.StatePass, key, after)
	v.Evidence = map[string]store.Judged{i.Digest: {ScanTime: at, Content: content}}
	v.Patience = patience
	return v
}

// unknown is the verdict that says that evidence is overdue.
func unknown(i imageref.Ref, after int64, now time.Time) store.NewVerdict {
	v := verdict(i, core.StateUnknown, "overdue", after)
	v.Overdue, v.CreateTime, v.KeepPending = true, now, true
	return v
}

func recordScan(t *testing.T, s store.Store, sc store.Scan, learned time.Time) {
	t.Helper()
	if err := s.RecordScan(t.Context(), sc, learned, patience); err != nil {
		t.Fatal(err)
	}
}

func overdueTime(t *testing.T, s store.Store, i imageref.Ref) time.Time {
	t.Helper()
	return lookup(t, s, i).OverdueTime
}

func overdue(t *testing.T, s store.Store, now time.Time) []store.Waiting {
	t.Helper()
	out, err := s.Overdue(t.Context(), now, 100)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// testWaiting takes one image through everything that can happen to its evidence.
func testWaiting(t *testing.T, s store.Store) {
	t.Helper()
	saved := save(t, s, passed(image, start, "clean", "pass", 0))
	// What says the same, is older or says nothing of the image does not wait.
	recordScan(t, s, scan(image, start.Add(time.Minute), "clean"), start)
	recordScan(t, s, scan(image, start.Add(-time.Minute), "critical"), start)
	if at := overdueTime(t, s, image); !at.IsZero() {
		t.Fatalf("overdue at %s", at)
	}
	first, learned := start.Add(2*time.Minute), start.Add(3*time.Minute)
	recordScan(t, s, scan(image, first, "critical"), learned)
	if at := overdueTime(t, s, image); !at.Equal(learned.Add(patience)) {
		t.Errorf("overdue at %s, want %s", at, learned.Add(patience))
	}
	// A later report does not set the clock back, nor does the same again.
	recordScan(t, s, scan(image, first.Add(time.Hour), "exploited"), learned.Add(time.Hour))
	recordScan(t, s, scan(image, first, "critical"), learned.Add(2*time.Hour))
	if at := overdueTime(t, s, image); !at.Equal(learned.Add(patience)) {
		t.Errorf("after a later report overdue at %s, want %s", at, learned.Add(patience))
	}
	end := learned.Add(patience)
	if got := overdue(t, s, end.Add(-1)); len(got) != 0 {
		t.Errorf("a moment before: %+v", got)
	}
	want := []store.Waiting{{Image: image, FirstScan: first, Since: learned, OverdueTime: end}}
	if diff := cmp.Diff(want, overdue(t, s, end)); diff != "" {
		t.Errorf("overdue (-want +got):\n%s", diff)
	}
	// No other verdict can be stored, even one that says what is stored already.
	for _, key := range []string{"pass", "again"} {
		v := verdict(image, core.StatePass, key, saved.Sequence)
		v.CreateTime = end
		late, ok := errors.AsType[*store.OverdueError](func() error { _, err := s.Save(t.Context(), v); return err }())
		if !ok || !cmp.Equal(late.Waiting, want[0]) {
			t.Errorf("%s: %+v", key, late)
		}
	}
	early := unknown(image, saved.Sequence, end.Add(-1))
	if _, err := s.Save(t.Context(), early); !errors.Is(err, store.ErrConflict) {
		t.Errorf("UNKNOWN before it is overdue: %v", err)
	}
	saved = save(t, s, unknown(image, saved.Sequence, end))
	if got := overdue(t, s, end); len(got) != 0 {
		t.Errorf("once recorded: %+v", got)
	}
	// Judged by the first report: the newest waits, from when the verifier learned of it.
	v := passed(image, first, "critical", "fail", saved.Sequence)
	v.CreateTime = end.Add(time.Minute)
	saved = judgedSoon(t, s, v, learned.Add(time.Hour))
	// Then by the newest: nothing waits.
	v = passed(image, first.Add(time.Hour), "exploited", "fail2", saved.Sequence)
	v.CreateTime = end.Add(24 * time.Hour)
	save(t, s, v)
	if at := overdueTime(t, s, image); !at.IsZero() {
		t.Errorf("judged, but overdue at %s", at)
	}
}

// judgedSoon stores a verdict by the first report that waits; the newest has patience left
// since the verifier learned of it.
func judgedSoon(t *testing.T, s store.Store, v store.NewVerdict, learned time.Time) store.Saved {
	t.Helper()
	saved := save(t, s, v)
	if at := overdueTime(t, s, v.Image); !at.Equal(learned.Add(patience)) {
		t.Errorf("the newest report is overdue at %s, want %s", at, learned.Add(patience))
	}
	return saved
}

func testOvertake(t *testing.T, s store.Store) {
	t.Helper()
	late, early, other := numbered(1), numbered(2), numbered(3)
	for _, i := range []imageref.Ref{late, early, other} {
		save(t, s, passed(i, start, "clean", "pass"+i.Digest, 0))
	}
	learned := start.Add(time.Hour)
	recordScan(t, s, scan(late, start.Add(20*time.Minute), "critical"), learned)
	recordScan(t, s, scan(early, start.Add(10*time.Minute), "critical"), learned)
	overtake := func() []imageref.Ref {
		t.Helper()
		got, err := s.Overtake(t.Context(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := overtake(); len(got) != 0 {
		t.Errorf("nothing was judged: %v", got)
	}
	save(t, s, passed(other, start.Add(15*time.Minute), "else", "other", lookup(t, s, other).Latest.Sequence))
	if diff := cmp.Diff([]imageref.Ref{early}, overtake()); diff != "" {
		t.Errorf("overtaken (-want +got):\n%s", diff)
	}
	if got := overtake(); len(got) != 0 {
		t.Errorf("again: %v", got)
	}
	if at := overdueTime(t, s, early); !at.Equal(learned.Add(time.Hour)) {
		t.Errorf("overdue at %s", at)
	}
	if at := overdueTime(t, s, late); !at.Equal(learned.Add(patience)) {
		t.Errorf("an image that nobody overtook is overdue at %s", at)
	}
}

func testGiveUp(t *testing.T, s store.Store) {
	t.Helper()
	saved := save(t, s, passed(image, start, "clean", "pass", 0))
	giveUp := func(at time.Time, want bool) {
		t.Helper()
		if waits, err := s.GiveUp(t.Context(), image, at, "the tag is no index", start.Add(time.Hour)); err != nil || waits != want {
			t.Errorf("waits %t, %v; want %t", waits, err, want)
		}
	}
	giveUp(start.Add(time.Minute), false) // nothing waits
	recordScan(t, s, scan(image, start.Add(2*time.Minute), "critical"), start)
	giveUp(start.Add(time.Minute), false) // about an older scan
	if at := overdueTime(t, s, image); !at.Equal(start.Add(patience)) {
		t.Errorf("overdue at %s", at)
	}
	giveUp(start.Add(2*time.Minute), true)
	got := overdue(t, s, start.Add(time.Hour))
	if len(got) != 1 || got[0].Problem != "the tag is no index" || !got[0].OverdueTime.Equal(start.Add(time.Hour)) {
		t.Errorf("given up: %+v", got)
	}
	// Of what is not known no platform is judged, until a newer report is.
	save(t, s, unknown(image, saved.Sequence, start.Add(time.Hour)))
	lost := store.Scan{Image: image, Time: start.Add(3 * time.Minute), Contents: map[string]string{store.EveryPlatform: store.UnknownContent}}
	recordScan(t, s, lost, start)
	v := passed(image, start.Add(2*time.Minute), "critical", "fail", saved.Sequence+1)
	v.CreateTime = start.Add(2 * time.Hour)
	if _, err := s.Save(t.Context(), v); err == nil {
		t.Error("an older report ended the wait")
	}
	v.Evidence[image.Digest] = store.Judged{ScanTime: start.Add(3 * time.Minute), Content: "critical"}
	save(t, s, v)
	if at := overdueTime(t, s, image); !at.IsZero() {
		t.Errorf("overdue at %s", at)
	}
}

// testIndexWaiting has an image of two platforms: both must have been judged.
func testIndexWaiting(t *testing.T, s store.Store) {
	t.Helper()
	amd, arm := numbered(1).Digest, numbered(2).Digest
	judged := func(key string, after int64, of map[string]store.Judged) store.Saved {
		t.Helper()
		v := passed(image, start, "", key, after)
		v.Evidence = of
		return save(t, s, v)
	}
	saved := judged("pass", 0, map[string]store.Judged{amd: {ScanTime: start, Content: "clean"}, arm: {ScanTime: start, Content: "clean"}})
	later := start.Add(time.Minute)
	recordScan(t, s, store.Scan{Image: image, Time: later, Contents: map[string]string{amd: "clean", arm: "critical"}}, start)
	if overdueTime(t, s, image).IsZero() {
		t.Error("a report about one platform does not wait")
	}
	saved = judged("amd alone", saved.Sequence, map[string]store.Judged{amd: {ScanTime: later, Content: "clean"}, arm: {ScanTime: start, Content: "clean"}})
	if overdueTime(t, s, image).IsZero() {
		t.Error("one platform ended the wait")
	}
	saved = judged("arm missing", saved.Sequence, map[string]store.Judged{amd: {ScanTime: later, Content: "clean"}})
	if overdueTime(t, s, image).IsZero() {
		t.Error("a missing platform ended the wait")
	}
	judged("both", saved.Sequence, map[string]store.Judged{amd: {ScanTime: later, Content: "clean"}, arm: {ScanTime: later, Content: "critical"}})
	if !overdueTime(t, s, image).IsZero() {
		t.Error("both platforms are judged and the report still waits")
	}
}

func testBacklog(t *testing.T, s store.Store) {
	t.Helper()
	backlog := func(now time.Time) store.Backlog {
		t.Helper()
		b, err := s.Backlog(t.Context(), now, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if got := backlog(start); got != (store.Backlog{}) {
		t.Errorf("of an empty store: %+v", got)
	}
	for n := range 3 {
		save(t, s, passed(numbered(n), start, "clean", "pass"+numbered(n).Digest, 0))
		recordScan(t, s, scan(numbered(n), start.Add(time.Minute), "critical"), start.Add(time.Duration(n)*time.Hour))
	}
	// One that has no verdict waits for its first one.
	recordScan(t, s, scan(numbered(9), start.Add(time.Minute), "critical"), start)
	for now, want := range map[time.Duration]store.Backlog{
		59 * time.Minute:           {},
		90 * time.Minute:           {Late: 2, Oldest: start},
		patience:                   {Late: 4, Oldest: start, Overdue: 1, Recent: 1},
		patience + 2*time.Hour:     {Late: 4, Oldest: start, Overdue: 3, Recent: 1},
		patience + 24*time.Hour:    {Late: 4, Oldest: start, Overdue: 3},
		patience + 110*time.Minute: {Late: 4, Oldest: start, Overdue: 2, Recent: 1},
	} {
		if diff := cmp.Diff(want, backlog(start.Add(now))); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", now, diff)
		}
	}
	for attempts := range 2 {
		err := s.ScheduleRetry(t.Context(), store.Retry{Image: numbered(attempts), Cause: because, Attempts: attempts, NextTime: start})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := backlog(start); got.Unreadable != 1 {
		t.Errorf("one image was tried in vain: %+v", got)
	}
}

func testRetries(t *testing.T, s store.Store) {
	t.Helper()
	retries := func(until time.Time, limit int) []store.Retry {
		t.Helper()
		out, err := s.Retries(t.Context(), until, limit)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	schedule := func(r store.Retry) {
		t.Helper()
		if err := s.ScheduleRetry(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	one := store.Retry{Image: numbered(1), Cause: because, Problem: "500", Attempts: 1, NextTime: start.Add(time.Minute)}
	two := store.Retry{Image: numbered(2), Cause: because, Problem: strings.Repeat("é", core.MaxText), Attempts: 3, NextTime: start}
	schedule(one)
	schedule(two)
	two.Problem = core.Truncate(two.Problem)
	if diff := cmp.Diff([]store.Retry{two}, retries(start, 10)); diff != "" {
		t.Errorf("due (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]store.Retry{two}, retries(start.Add(time.Hour), 1)); diff != "" {
		t.Errorf("the first (-want +got):\n%s", diff)
	}
	one.Attempts, one.NextTime, one.Problem = 2, start.Add(-time.Minute), "403"
	schedule(one)
	if diff := cmp.Diff([]store.Retry{one, two}, retries(start, 10)); diff != "" {
		t.Errorf("scheduled again (-want +got):\n%s", diff)
	}
	// A verdict by the rules ends it; one that no rule had a part in does not.
	saved := save(t, s, verdict(one.Image, core.StateUnknown, "unreadable", 0))
	if got := retries(start, 10); len(got) != 2 {
		t.Errorf("after an UNKNOWN: %+v", got)
	}
	v := verdict(one.Image, core.StatePass, "pass", saved.Sequence)
	v.Revision = revision(t, s)
	save(t, s, v)
	if err := s.EndRetry(t.Context(), numbered(7)); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]store.Retry{two}, retries(start, 10)); diff != "" {
		t.Errorf("after a verdict (-want +got):\n%s", diff)
	}
	if err := s.EndRetry(t.Context(), two.Image); err != nil || len(retries(start, 10)) != 0 {
		t.Errorf("ended: %v", err)
	}
	// What was taken back is judged again although nothing else would.
	save(t, s, passed(image, start, "clean", "pass", 0))
	recordScan(t, s, scan(image, start.Add(time.Minute), "critical"), start)
	save(t, s, unknown(image, lookup(t, s, image).Latest.Sequence, start.Add(patience)))
	recordScan(t, s, scan(image, start.Add(2*time.Minute), "clean"), start.Add(patience))
	if got := retries(start.Add(patience), 10); len(got) != 1 || got[0].Image != image {
		t.Errorf("taken back: %+v", got)
	}
}

// testTold stores changes that subscribers are not told of: they are told of what is new to
// them, with the state that they knew.
func testTold(t *testing.T, s store.Store) {
	t.Helper()
	told := func() []string {
		t.Helper()
		entries, err := s.Outbox(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, e := range entries {
			out = append(out, e.PreviousState.String()+" "+e.State.String())
			if err := s.Published(t.Context(), e.Sequence); err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	step := func(state core.State, key string, quiet bool, want ...string) {
		t.Helper()
		after := int64(0)
		if i := lookup(t, s, image); i != nil {
			after = i.Latest.Sequence
		}
		v := verdict(image, state, key, after)
		v.Quiet = quiet
		save(t, s, v)
		if diff := cmp.Diff(want, told()); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", state, key, diff)
		}
	}
	step(core.StatePass, "pass", false, "UNSPECIFIED PASS")
	step(core.StateUnknown, "overdue", true)
	step(core.StatePass, "pass", false) // nothing new to them
	step(core.StateUnknown, "overdue", true)
	step(core.StateUnknown, "unreadable", true)
	step(core.StateFail, "fail", false, "PASS FAIL")
	step(core.StatePass, "pass", false, "FAIL PASS")
	changes, err := s.Changes(t.Context(), 0, 100)
	if err != nil || len(changes) != 7 {
		t.Errorf("watchers see %d changes, %v", len(changes), err)
	}
}

// testStorm lets scans, verdicts, dead letters and the clock meet on a few images from many
// goroutines. Whatever the order, no PASS by old evidence is left past its time.
func testStorm(t *testing.T, s store.Store) {
	t.Helper()
	const images, rounds = 4, 15
	for n := range images {
		save(t, s, passed(numbered(n), start, "clean", "pass"+numbered(n).Digest, 0))
	}
	newest := start.Add(rounds * time.Minute)
	var g errgroup.Group
	for n := range images {
		i := numbered(n)
		g.Go(func() error { // scans
			for r := 1; r <= rounds; r++ {
				if err := s.RecordScan(t.Context(), scan(i, start.Add(time.Duration(r)*time.Minute), fmt.Sprint("critical", r)), start, patience); err != nil {
					return err
				}
			}
			return nil
		})
		g.Go(func() error { // dead letters
			for r := 1; r <= rounds; r++ {
				if _, err := s.GiveUp(t.Context(), i, start.Add(time.Duration(r)*time.Minute), "broken", start.Add(time.Hour)); err != nil {
					return err
				}
			}
			return nil
		})
		for writer := range 2 { // verdicts by old evidence, all the time
			g.Go(func() error {
				for r := range rounds {
					if err := stormVerdict(t.Context(), s, i, fmt.Sprintf("old %d %d", writer, r), start.Add(time.Hour)); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	g.Go(func() error { // the clock
		for range rounds {
			if _, err := s.Overtake(t.Context(), time.Minute); err != nil {
				return err
			}
			if _, err := s.Backlog(t.Context(), start.Add(time.Hour), time.Hour); err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for n := range images {
		i := numbered(n)
		if _, err := s.GiveUp(t.Context(), i, newest, "broken", start.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		found := lookup(t, s, i)
		if found.OverdueTime.IsZero() || found.OverdueTime.After(start.Add(time.Hour)) {
			t.Errorf("%s: overdue at %s", i.Digest, found.OverdueTime)
		}
		if err := stormVerdict(t.Context(), s, i, "the end", start.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if found = lookup(t, s, i); found.Latest.State != core.StateUnknown {
			t.Errorf("%s is %s", i.Digest, found.Latest.State)
		}
		v := passed(i, newest, fmt.Sprint("critical", rounds), "healed", found.Latest.Sequence)
		v.CreateTime = start.Add(time.Hour)
		save(t, s, v)
		if at := overdueTime(t, s, i); !at.IsZero() {
			t.Errorf("%s: judged, but overdue at %s", i.Digest, at)
		}
	}
	changes, err := s.Changes(t.Context(), 0, 10000)
	if err != nil {
		t.Fatal(err)
	}
	for n, c := range changes {
		if c.Sequence != int64(n+1) {
			t.Fatalf("change %d has the sequence %d", n, c.Sequence)
		}
	}
}

// stormVerdict stores a PASS by the first evidence, or UNKNOWN if that is overdue, as the
// recorder does.
func stormVerdict(ctx context.Context, s store.Store, i imageref.Ref, key string, now time.Time) error {
	for {
		found, err := s.Lookup(ctx, []imageref.Ref{i}, now)
		if err != nil {
			return err
		}
		v := passed(i, start, "clean", key, found[0].Latest.Sequence)
		v.CreateTime = now
		_, err = s.Save(ctx, v)
		if _, late := errors.AsType[*store.OverdueError](err); late {
			_, err = s.Save(ctx, unknown(i, found[0].Latest.Sequence, now))
		}
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}
