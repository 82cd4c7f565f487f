package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

// lookup returns what is known of one image.
func lookup(t *testing.T, s store.Store, i imageref.Ref) *store.Image {
	t.Helper()
	found, err := s.Lookup(t.Context(), []imageref.Ref{i}, start)
	if err != nil || len(found) != 1 {
		t.Fatalf("%d images, %v", len(found), err)
	}
	return found[0]
}

func testLookup(t *testing.T, s store.Store) {
	t.Helper()
	in := func(repository string) imageref.Ref {
		i := image
		i.Repository = repository
		return i
	}
	anywhere, none := imageref.Ref{Digest: digest}, imageref.Ref{Digest: "sha256:" + strings.Repeat("b", 64)}
	if err := s.RecordPush(t.Context(), none.WithDigest(none.Digest), start); err != nil {
		t.Fatal(err)
	}
	ending := verdict(in("team/ending"), core.StatePass, "ending", 0)
	ending.ExpireTime = start.Add(time.Hour)
	save(t, s, verdict(image, core.StatePass, "one", 0))
	if got := lookup(t, s, anywhere); got.Latest == nil || got.Latest.Sequence != 1 || !got.Until.IsZero() {
		t.Errorf("in one repository, by digest: %+v", got)
	}
	save(t, s, ending)
	if got := lookup(t, s, anywhere); got.Latest.Sequence != 1 && got.Latest.Sequence != 2 || !got.Until.Equal(ending.ExpireTime) {
		t.Errorf("two that pass, one of them ends: %+v", got)
	}
	found, err := s.Lookup(t.Context(), []imageref.Ref{anywhere}, start.Add(time.Hour))
	if err != nil || found[0].Latest.Sequence != 2 || !found[0].Until.IsZero() {
		t.Errorf("the one that has ended is worse: %+v, %v", found[0], err)
	}
	save(t, s, verdict(in("another/app"), core.StateFail, "two", 0))
	save(t, s, verdict(image, core.StatePass, "three", 1))

	found, err = s.Lookup(t.Context(), []imageref.Ref{none, image, anywhere, in("team/ending"), in("never"), image}, start)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range found {
		switch {
		case i == nil:
			got = append(got, "nothing")
		case i.Latest == nil:
			got = append(got, "no verdict")
		default:
			got = append(got, fmt.Sprintf("%s %d %s ends %t", i.Repository, i.Latest.Sequence, i.Latest.State, !i.Until.IsZero()))
		}
	}
	// What passes and ends does not decide, but nothing else may be said for longer.
	want := []string{"no verdict", "team/app 4 PASS ends false", "another/app 3 FAIL ends true", "team/ending 2 PASS ends true", "nothing", "team/app 4 PASS ends false"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	all, err := s.Changes(t.Context(), 3, 1)
	if err != nil || cmp.Diff(&all[0], found[1].Latest) != "" {
		t.Errorf("the verdict of a lookup differs from that of the changes: %+v, %v", all, err)
	}
	if found, err = s.Lookup(t.Context(), nil, start); err != nil || len(found) != 0 {
		t.Errorf("nothing asked: %+v, %v", found, err)
	}
	for _, tc := range []struct {
		after   int64
		limit   int
		digests []string
		last    int64
	}{{0, 2, []string{digest, digest}, 2}, {3, 10, []string{digest}, 4}, {4, 10, nil, 4}} {
		digests, last, err := s.ChangedDigests(t.Context(), tc.after, tc.limit)
		if err != nil || !slices.Equal(digests, tc.digests) || last != tc.last {
			t.Errorf("changes after %d: %v, %d, %v", tc.after, digests, last, err)
		}
	}
}

func testPushes(t *testing.T, s store.Store) {
	t.Helper()
	pending := func() time.Time {
		t.Helper()
		return lookup(t, s, image).Pending
	}
	push := func(at time.Time) {
		t.Helper()
		if err := s.RecordPush(t.Context(), image, at); err != nil {
			t.Fatal(err)
		}
	}
	push(start)
	if !pending().Equal(start) {
		t.Errorf("pending since %s", pending())
	}
	save(t, s, verdict(image, core.StatePass, "one", 0))
	if !pending().IsZero() {
		t.Error("pending with a verdict")
	}
	push(start.Add(-time.Minute))
	if !pending().IsZero() {
		t.Error("a push that is older than the verdict made it pending")
	}
	push(start.Add(time.Minute))
	push(start.Add(time.Second))
	if !pending().Equal(start.Add(time.Minute)) {
		t.Errorf("pending since %s", pending())
	}
	if err := s.Settle(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	if !pending().IsZero() {
		t.Error("pending after Settle")
	}
}

func testTags(t *testing.T, s store.Store) {
	t.Helper()
	tagged := image
	tagged.Tag = "v1"
	other := tagged.WithDigest("sha256:" + strings.Repeat("c", 64))
	resolve := func() (string, string) {
		t.Helper()
		return resolveTag(t, s, "v1")
	}
	if tags, err := s.ResolveTags(t.Context(), []imageref.Ref{tagged, tagged}); err != nil || len(tags) != 2 || tags[0] != nil || tags[1] != nil {
		t.Errorf("unknown tag: %v, %v", tags, err)
	}
	steps := []struct {
		name            string
		do              func() error
		digest, problem string
	}{
		{"failure", func() error { return s.FailTag(t.Context(), tagged.WithDigest(""), "gone", start) }, "", "gone"},
		{"digest found", func() error { return s.RecordTag(t.Context(), tagged, start.Add(time.Second)) }, digest, ""},
		{"late failure", func() error { return s.FailTag(t.Context(), tagged.WithDigest(""), "late", start.Add(time.Second)) }, digest, ""},
		{"older answer", func() error { return s.RecordTag(t.Context(), other, start.Add(-time.Hour)) }, digest, ""},
		{"answer without digest", func() error { return s.RecordTag(t.Context(), tagged.WithDigest(""), start.Add(time.Minute)) }, "", ""},
		{"its problem", func() error { return s.FailTag(t.Context(), tagged.WithDigest(""), "sha512", start.Add(time.Minute)) }, "", "sha512"},
		{"newer answer", func() error { return s.RecordTag(t.Context(), other, start.Add(time.Hour)) }, other.Digest, ""},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if d, p := resolve(); d != step.digest || p != step.problem {
			t.Errorf("%s: digest %q, problem %q", step.name, d, p)
		}
	}

	// The failure is reported before the push that failed.
	early := imageref.Ref{Registry: image.Registry, Repository: image.Repository, Tag: "early"}
	if err := s.FailTag(t.Context(), early, "gone", start.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, push := range []struct {
		at      time.Time
		problem string
	}{{start, "gone"}, {start.Add(time.Minute), ""}} {
		if err := s.RecordTag(t.Context(), early.WithDigest(digest), push.at); err != nil {
			t.Fatal(err)
		}
		if _, p := resolveTag(t, s, "early"); p != push.problem {
			t.Errorf("after the push of %s: problem %q, want %q", push.at, p, push.problem)
		}
	}
}

func resolveTag(t *testing.T, s store.Store, tag string) (digest, problem string) {
	t.Helper()
	tags, err := s.ResolveTags(t.Context(), []imageref.Ref{{Registry: image.Registry, Repository: image.Repository, Tag: tag}})
	if err != nil || tags[0] == nil {
		t.Fatalf("tag %s: %v, %v", tag, tags, err)
	}
	return tags[0].Digest, tags[0].Problem
}
