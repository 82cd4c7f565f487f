package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

func reconciliation(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	ref := put(t, s, child, "s", "r1")
	other := image
	other.Repository = "team/other"
	finished(t, s, "old", image.WithDigest(number(1)), start, ref)
	finished(t, s, "new", image.WithDigest(number(2)), start.Add(time.Hour), ref)
	finished(t, s, "elsewhere", other.WithDigest(number(3)), start.Add(2*time.Hour), ref)
	failed := image.WithDigest(number(4))
	failed.Tag = "chart"
	must[store.Scan](t)(s.CreateScan(ctx, store.Scan{ID: "failed", Image: failed, State: store.Queued, CreateTime: start}))
	check(t, s.FailScan(ctx, "failed", "NOT_AN_IMAGE", "no", start))
	// More tags than fit in one statement.
	tags := []string{"chart", "v1", "never"}
	for i := range 450 {
		tags = append(tags, fmt.Sprintf("none%d", i))
	}
	got := must[map[string]store.TagScan](t)(s.TagScans(ctx, image, tags))
	want := map[string]store.TagScan{
		"v1":    {ID: "new", Digest: number(2), State: store.Succeeded, CreateTime: start.Add(time.Hour)},
		"chart": {ID: "failed", Digest: number(4), State: store.Failed, CreateTime: start},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("scans of tags (-want +got)\n%s", diff)
	}
	digests := func(after string, n int, want ...string) {
		t.Helper()
		if got := must[[]string](t)(s.ScannedDigests(ctx, image, after, n)); !slices.Equal(got, want) {
			t.Errorf("digests after %q: %q, want %q", after, got, want)
		}
	}
	digests("", 10, number(1), number(2))
	digests("", 1, number(1))
	digests(number(1), 10, number(2))
	if got := must[[]string](t)(s.ScannedRepositories(ctx, image.Registry, 10)); !slices.Equal(got, []string{"team/app", "team/other"}) {
		t.Errorf("repositories %q", got)
	}

	absent := image.WithDigest(number(1))
	check(t, s.SetAbsence(ctx, absent, store.Absence{First: start}))
	digests("", 10, number(1), number(2))
	check(t, s.SetAbsence(ctx, absent, store.Absence{First: start, Told: start.Add(time.Hour)}))
	digests("", 10, number(2))
	absences := must[map[string]store.Absence](t)(s.Absences(ctx, image, []string{number(1), number(2)}))
	if diff := cmp.Diff(map[string]store.Absence{number(1): {First: start, Told: start.Add(time.Hour)}}, absences); diff != "" {
		t.Errorf("absences (-want +got)\n%s", diff)
	}
	if got := must[map[string]store.Absence](t)(s.Absences(ctx, other, []string{number(1)})); len(got) != 0 {
		t.Errorf("absences of another repository: %v", got)
	}
	check(t, s.ClearAbsence(ctx, absent))
	digests("", 10, number(1), number(2))

	if got := must[time.Time](t)(s.Reconciled(ctx, image.Registry)); !got.IsZero() {
		t.Errorf("reconciled at %v before it ever was", got)
	}
	for _, end := range []time.Time{start, start.Add(time.Hour)} {
		check(t, s.SetReconciled(ctx, image.Registry, end))
		if got := must[time.Time](t)(s.Reconciled(ctx, image.Registry)); !got.Equal(end) {
			t.Errorf("reconciled at %v, want %v", got, end)
		}
	}
}
