package storetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

func hint(t *testing.T, s store.Store, i imageref.Ref, at time.Time) {
	t.Helper()
	if err := s.RequestLook(t.Context(), i, at, at.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
}

func due(t *testing.T, s store.Store, at time.Time) []store.Look {
	t.Helper()
	all, err := s.NextLooks(t.Context(), at, 100)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func finish(t *testing.T, s store.Store, l store.Look, at, next time.Time) {
	t.Helper()
	if err := s.FinishLook(t.Context(), l, at, next); err != nil {
		t.Fatal(err)
	}
}

// testLooks: however many hints there are about an image, they are one look within an
// interval, and the last one is not lost.
func testLooks(t *testing.T, s store.Store) {
	t.Helper()
	for i := range 50 {
		hint(t, s, image, start.Add(time.Duration(i)*time.Millisecond))
	}
	if l := due(t, s, start); len(l) != 0 {
		t.Errorf("looks before they are due: %v", l)
	}
	at := start.Add(2 * time.Second)
	looks := due(t, s, at)
	if len(looks) != 1 || looks[0].Image != image || !looks[0].HintTime.Equal(start.Add(49*time.Millisecond)) {
		t.Fatalf("looks: %v", looks)
	}
	// One that comes while the look is under way has a look of its own, after the interval.
	hint(t, s, image, at.Add(time.Second))
	finish(t, s, looks[0], at, time.Time{})
	for i := range 50 {
		hint(t, s, image, at.Add(time.Duration(2+i)*time.Millisecond))
	}
	if l := due(t, s, at.Add(store.LookInterval-time.Second)); len(l) != 0 {
		t.Errorf("looks within the interval: %v", l)
	}
	at = at.Add(store.LookInterval)
	if looks = due(t, s, at); len(looks) != 1 {
		t.Fatalf("the later hint is lost: %v", looks)
	}
	// A look that failed keeps its hint.
	finish(t, s, looks[0], at, at.Add(time.Minute))
	if l := due(t, s, at.Add(time.Minute)); len(l) != 1 || l[0].HintTime.IsZero() {
		t.Errorf("after a failure: %v", l)
	}
	finish(t, s, looks[0], at, time.Time{})
	if l := due(t, s, at.Add(time.Hour)); len(l) != 0 {
		t.Errorf("nothing is left: %v", l)
	}
}

// testLooksAreFair: ten thousand referrers in one repository do not delay another one.
func testLooksAreFair(t *testing.T, s store.Store) {
	t.Helper()
	var many []imageref.Ref
	for i := range 200 {
		many = append(many, imageref.Ref{Registry: "r.example", Repository: "stranger/app", Digest: fmt.Sprintf("sha256:%064x", i)})
	}
	if err := s.RequestLooks(t.Context(), many, start, start); err != nil {
		t.Fatal(err)
	}
	hint(t, s, image, start.Add(time.Minute))
	got, err := s.NextLooks(t.Context(), start.Add(time.Hour), 2)
	if err != nil || len(got) != 2 || got[0].Image.Repository == got[1].Image.Repository {
		t.Errorf("looks: %v, %v", got, err)
	}
}

// testLooksFollow: verdicts that lack evidence are looked at again; a verdict from what
// the registry has answers the hints from before it was read, and no later one.
func testLooksFollow(t *testing.T, s store.Store) {
	t.Helper()
	platform := "sha256:" + strings.Repeat("b", 64)
	v := verdict(image, core.StateUnknown, "one", 0)
	v.LacksEvidence, v.Platforms = true, []string{platform, image.Digest}
	save(t, s, v)
	if l := due(t, s, start.Add(store.FirstLook-time.Second)); len(l) != 0 {
		t.Errorf("too early: %v", l)
	}
	looks := due(t, s, start.Add(store.FirstLook))
	if len(looks) != 1 || !looks[0].MissingTime.Equal(start) {
		t.Fatalf("looks: %v", looks)
	}
	l := looks[0]
	l.Attempt = 3
	finish(t, s, l, start.Add(store.FirstLook), start.Add(time.Minute))
	// The same verdict again does not begin anew.
	v.After, v.CreateTime = 1, start.Add(time.Second)
	save(t, s, v)
	if got := due(t, s, start.Add(time.Minute)); len(got) != 1 || got[0].Attempt != 3 || !got[0].MissingTime.Equal(start) {
		t.Errorf("the search began anew: %v", got)
	}
	indexes, err := s.IndexesWith(t.Context(), image.WithDigest(platform))
	if diff := cmp.Diff([]imageref.Ref{image}, indexes); err != nil || diff != "" {
		t.Errorf("indexes: %v, %s", err, diff)
	}
	if own, err := s.IndexesWith(t.Context(), image); err != nil || len(own) != 0 {
		t.Errorf("an image is no index of itself: %v, %v", own, err)
	}

	hint(t, s, image, start.Add(2*time.Minute))
	pass := verdict(image, core.StatePass, "two", 1)
	pass.ReadTime = start.Add(time.Minute)
	save(t, s, pass)
	if got := due(t, s, start.Add(time.Hour)); len(got) != 1 || !got[0].MissingTime.IsZero() || got[0].HintTime.IsZero() {
		t.Errorf("a hint from after the evidence was read: %v", got)
	}
	pass.After, pass.ReadTime = 2, start.Add(3*time.Minute)
	save(t, s, pass)
	if got := due(t, s, start.Add(time.Hour)); len(got) != 0 {
		t.Errorf("a hint from before the evidence was read: %v", got)
	}
}

// testLooksAreBounded hints at more manifests than looks are planned for: they become one
// look at the repository, and known images are looked at all the same.
func testLooksAreBounded(t *testing.T, s store.Store) {
	t.Helper()
	save(t, s, verdict(image, core.StatePass, "one", 0))
	for n := range store.MaxLooks + 10 {
		hint(t, s, image.WithDigest(fmt.Sprintf("sha256:%064x", n)), start)
	}
	hint(t, s, image, start)
	hint(t, s, image.WithDigest(fmt.Sprintf("sha256:%064x", 1)), start)
	other := image.WithDigest(fmt.Sprintf("sha256:%064x", store.MaxLooks+1))
	other.Repository = "team/other"
	hint(t, s, other, start)
	due, err := s.NextLooks(t.Context(), start.Add(time.Second), 2*store.MaxLooks)
	if err != nil || len(due) != store.MaxLooks+3 {
		t.Fatalf("%d looks, %v", len(due), err)
	}
	whole := image
	whole.Digest = ""
	found := map[imageref.Ref]bool{}
	for _, l := range due {
		found[l.Image] = true
	}
	if !found[whole] || !found[image] || !found[other] || found[image.WithDigest(other.Digest)] {
		t.Errorf("the repository %t, the image %t, another repository %t", found[whole], found[image], found[other])
	}
	// When they are done there is room again.
	for _, l := range due {
		if err := s.FinishLook(t.Context(), l, start, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	last := store.Look{Image: whole}
	if err := s.FinishLook(t.Context(), last, start.Add(time.Hour), time.Time{}); err != nil {
		t.Fatal(err)
	}
	hint(t, s, image.WithDigest(other.Digest), start)
	if due, err = s.NextLooks(t.Context(), start.Add(time.Hour), 10); err != nil || len(due) != 1 || due[0].Image != image.WithDigest(other.Digest) {
		t.Errorf("later: %+v, %v", due, err)
	}
}
