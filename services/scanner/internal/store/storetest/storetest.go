// Package storetest is the suite that an implementation of store.Store must pass.
package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

var suite = map[string]func(*testing.T, store.Store){
	"scan lifecycle":    scanLifecycle,
	"newest scan":       newestScan,
	"tags":              tags,
	"reports":           reports,
	"concurrent report": concurrentReport,
	"snapshots":         snapshots,
	"layers":            layers,
	"pruned layers":     prunedLayers,
	"base images":       baseImages,
	"inventories":       inventories,
	"package sets":      packageSets,
	"feeds":             feeds,
	"reconciliation":    reconciliation,
	"not found":         notFound,

	"shared sets at once":    sharedSets,
	"tidied while used":      tidyAndUse,
	"finished twice at once": finishedTwice,
	"feeds at once":          feedsAtOnce,
	"seeded at once":         seedAtOnce,
	"leased once":            leasedOnce,
	"snapshot among pushes":  snapshotAmongPushes,
}

// Names are the tests of the suite.
func Names() []string { return slices.Sorted(maps.Keys(suite)) }

// One runs one test of the suite on an empty store.
func One(t *testing.T, name string, s store.Store) {
	t.Helper()
	suite[name](t, s)
}

var (
	start  = time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	image  = imageref.Ref{Registry: "r.example:5000", Repository: "team/app", Tag: "v1"}
	digest = "sha256:" + fmt.Sprintf("%064d", 1)
	child  = "sha256:" + fmt.Sprintf("%064d", 2)
)

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, s store.Store, imageDigest, snapshot, reportDigest string) core.ReportRef {
	t.Helper()
	return must[core.ReportRef](t)(s.PutReport(t.Context(), store.StoredReport{
		Ref: core.ReportRef{
			ImageDigest: imageDigest, ReportDigest: reportDigest,
			Platform: core.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"},
		},
		SnapshotDigest: snapshot, ScannerVersion: "1", Content: []byte(`{"report":"` + reportDigest + `"}`), Time: start,
	}))
}

func scanLifecycle(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	want := store.Scan{ID: "a", Image: image, State: store.Queued, TraceID: "trace", CreateTime: start}
	equal := func(got store.Scan) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("scan (-want +got):\n%s", diff)
		}
	}
	equal(must[store.Scan](t)(s.CreateScan(ctx, want)))
	equal(must[store.Scan](t)(s.CreateScan(ctx, store.Scan{ID: "a", State: store.Failed, Image: imageref.Ref{Tag: "other"}})))

	check(t, s.StartScan(ctx, "a", digest))
	want.State, want.Image.Digest = store.Running, digest
	equal(must[store.Scan](t)(s.Scan(ctx, "a")))

	end := start.Add(time.Minute)
	check(t, s.FailScan(ctx, "a", "REASON", "message", end))
	want.State, want.ErrorReason, want.ErrorMessage, want.EndTime = store.Failed, "REASON", "message", end
	equal(must[store.Scan](t)(s.Scan(ctx, "a")))

	// A dead letter that is replayed runs the scan again.
	check(t, s.StartScan(ctx, "a", digest))
	refs := []core.ReportRef{put(t, s, digest, "s", "r2"), put(t, s, child, "s", "r1")}
	check(t, s.FinishScan(ctx, "a", refs, end))
	want.State, want.ErrorReason, want.ErrorMessage, want.Reports = store.Succeeded, "", "", refs
	equal(must[store.Scan](t)(s.Scan(ctx, "a")))

	// What succeeded stays so.
	check(t, s.StartScan(ctx, "a", child))
	check(t, s.FailScan(ctx, "a", "LATE", "late", end.Add(time.Hour)))
	check(t, s.FinishScan(ctx, "a", refs[:1], end.Add(time.Hour)))
	equal(must[store.Scan](t)(s.Scan(ctx, "a")))
}

func finished(t *testing.T, s store.Store, id string, img imageref.Ref, created time.Time, refs ...core.ReportRef) {
	t.Helper()
	must[store.Scan](t)(s.CreateScan(t.Context(), store.Scan{ID: id, Image: img, State: store.Queued, CreateTime: created}))
	check(t, s.StartScan(t.Context(), id, img.Digest))
	check(t, s.FinishScan(t.Context(), id, refs, created.Add(time.Second)))
}

func newestScan(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	ref := put(t, s, child, "s", "r1")
	index := image.WithDigest(digest)
	finished(t, s, "old", index, start, ref)
	finished(t, s, "new", index, start.Add(time.Hour), ref)
	must[store.Scan](t)(s.CreateScan(ctx, store.Scan{ID: "queued", Image: index, State: store.Queued, CreateTime: start.Add(2 * time.Hour)}))
	other := index
	other.Repository = "team/other"
	for _, c := range []struct {
		name     string
		image    imageref.Ref
		finished bool
		want     string
	}{
		{"any", index, false, "queued"},
		{"finished", index, true, "new"},
		{"by the digest of a platform", image.WithDigest(child), true, "new"},
		{"another repository", other, false, ""},
		{"another digest", image.WithDigest("sha256:0"), false, ""},
	} {
		got, err := s.NewestScan(ctx, c.image, c.finished)
		if got.ID != c.want || (c.want == "") != errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %q, %v, want %q", c.name, got.ID, err, c.want)
		}
	}
}

func tags(t *testing.T, s store.Store) {
	t.Helper()
	ref := put(t, s, digest, "s", "r1")
	finished(t, s, "first", image.WithDigest(digest), start, ref)
	if got := must[string](t)(s.TagDigest(t.Context(), image)); got != digest {
		t.Errorf("tag is %s", got)
	}
	finished(t, s, "second", image.WithDigest(child), start.Add(time.Hour), ref)
	// A scan that was asked for earlier and ended later does not turn the tag back.
	finished(t, s, "late", image.WithDigest(digest), start.Add(time.Minute), ref)
	if got := must[string](t)(s.TagDigest(t.Context(), image)); got != child {
		t.Errorf("tag is %s", got)
	}
}

func reports(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	if _, ok, err := s.FindReport(ctx, digest, "s1", "1"); ok || err != nil {
		t.Errorf("found a report in an empty store: %v", err)
	}
	first := put(t, s, digest, "s1", "r1")
	if again := put(t, s, digest, "s1", "r-other"); again != first {
		t.Errorf("stored twice: %v, %v", first, again)
	}
	put(t, s, digest, "s2", "r2")
	got, ok, err := s.FindReport(ctx, digest, "s1", "1")
	if err != nil || !ok || got != first {
		t.Errorf("found %v %v %v", got, ok, err)
	}
	if _, ok, _ := s.FindReport(ctx, digest, "s1", "2"); ok {
		t.Error("found the report of another version of the scanner")
	}
	later := store.StoredReport{
		Ref: core.ReportRef{ImageDigest: digest, ReportDigest: "r3"}, SnapshotDigest: "s3", ScannerVersion: "1", Content: []byte("{}"), Time: start.Add(time.Hour),
	}
	must[core.ReportRef](t)(s.PutReport(ctx, later))
	if at := must[time.Time](t)(s.FirstReportTime(ctx, digest, "1")); !at.Equal(start) {
		t.Errorf("first report at %s", at)
	}
	if _, err := s.FirstReportTime(ctx, digest, "2"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("first report of another version of the scanner: %v", err)
	}
	if content := must[[]byte](t)(s.Report(ctx, "r1")); string(content) != `{"report":"r1"}` {
		t.Errorf("content %s", content)
	}
}

func concurrentReport(t *testing.T, s store.Store) {
	t.Helper()
	var wg sync.WaitGroup
	refs := make([]core.ReportRef, 8)
	for i := range refs {
		wg.Go(func() { refs[i] = put(t, s, digest, "s", "r1") })
	}
	wg.Wait()
	for _, r := range refs {
		if r != refs[0] {
			t.Errorf("references differ: %v", refs)
		}
	}
}

func snapshots(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	large := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	seeded := must[bool](t)(s.SeedSnapshot(ctx, store.StoredSnapshot{Digest: "one", Count: 1, Content: []byte("one"), Time: start}))
	again := must[bool](t)(s.SeedSnapshot(ctx, store.StoredSnapshot{Digest: "two", Count: 1, Content: []byte("two"), Time: start}))
	if !seeded || again {
		t.Errorf("seeded %v, again %v", seeded, again)
	}
	for _, c := range []store.StoredSnapshot{
		{Digest: "large", Count: 9, Content: large, Time: start},
		{Digest: "small", Count: 9, Content: []byte("small"), Time: start},
		{Digest: "large", Count: 9, Content: large, Time: start},
		{Digest: "large", Count: 9, Content: large[:len(large)-1], Time: start},
	} {
		check(t, s.SetSnapshot(ctx, c))
		if got := must[string](t)(s.CurrentSnapshot(ctx)); got != c.Digest {
			t.Errorf("current is %s, want %s", got, c.Digest)
		}
		if got := must[[]byte](t)(s.Snapshot(ctx, c.Digest)); !bytes.Equal(got, c.Content) {
			t.Errorf("snapshot %s has %d bytes, want %d", c.Digest, len(got), len(c.Content))
		}
	}
	if _, err := s.Snapshot(ctx, "small"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a snapshot that is not in use is still there: %v", err)
	}
	// The times of lists of scores stay until there is a list of another time.
	later := start.Add(time.Hour)
	for _, c := range []struct{ set, want map[string]time.Time }{
		{nil, map[string]time.Time{}},
		{map[string]time.Time{"a": start, "b": start, "c": {}}, map[string]time.Time{"a": start, "b": start}},
		{map[string]time.Time{"a": later, "b": {}}, map[string]time.Time{"a": later, "b": start}},
		{map[string]time.Time{"a": start}, map[string]time.Time{"a": start, "b": start}},
	} {
		check(t, s.SetSnapshot(ctx, store.StoredSnapshot{Digest: "large", Content: large, Time: start, ScoreTimes: c.set}))
		if got := must[map[string]time.Time](t)(s.ScoreTimes(ctx)); !maps.EqualFunc(got, c.want, time.Time.Equal) {
			t.Errorf("times %v, want %v", got, c.want)
		}
	}
}

func feeds(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	if got := must[[]store.Feed](t)(s.Feeds(ctx)); len(got) != 0 {
		t.Errorf("feeds of an empty store: %v", got)
	}
	for _, want := range [][]store.Feed{
		{{Name: "a", Digest: "1", CheckTime: start, ChangeTime: start.Add(time.Second), TryTime: start.Add(time.Minute)}, {Name: "b", Error: "gone"}},
		{{Name: "b", Digest: "2"}},
		nil,
	} {
		check(t, s.SetFeeds(ctx, want))
		if diff := cmp.Diff(want, must[[]store.Feed](t)(s.Feeds(ctx))); diff != "" {
			t.Errorf("feeds (-want +got):\n%s", diff)
		}
	}
}

func layers(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	for _, content := range []string{"first", "again"} {
		check(t, s.PutLayer(ctx, digest, "1", []byte(content), start))
		if got := must[[]byte](t)(s.Layer(ctx, digest, "1")); string(got) != content {
			t.Errorf("layer %q, want %q", got, content)
		}
	}
	for _, key := range [][2]string{{digest, "2"}, {child, "1"}} {
		if _, err := s.Layer(ctx, key[0], key[1]); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%v: %v", key, err)
		}
	}
}

// indexed are packages with the keys, in version 1 and of one layer.
func indexed(keys []core.PackageKey) []core.IndexedPackage {
	var out []core.IndexedPackage
	for _, k := range keys {
		out = append(out, core.IndexedPackage{
			PackageVersion: core.PackageVersion{Ecosystem: k.Ecosystem, Name: k.Name, Version: "1"}, Base: k.Ecosystem, OwnName: k.Name, Layer: "l",
		})
	}
	return out
}

func inventories(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	a, b := core.PackageKey{Ecosystem: "npm", Name: "a"}, core.PackageKey{Ecosystem: "Debian", Name: "b"}
	save := func(image, snapshot, report string, keys ...core.PackageKey) core.ReportRef {
		t.Helper()
		return must[core.ReportRef](t)(s.PutReport(ctx, store.StoredReport{
			Ref: core.ReportRef{ImageDigest: image, ReportDigest: report}, SnapshotDigest: snapshot, ScannerVersion: "1",
			Content: []byte("{}"), Time: start, Packages: indexed(keys), Problems: []string{"one", "two"},
		}))
	}
	queue := func(at time.Time, want ...string) []store.Rematch {
		t.Helper()
		work := must[[]store.Rematch](t)(s.LeaseRematches(ctx, at, at.Add(time.Minute), 10))
		var got []string
		for _, w := range work {
			got = append(got, w.ImageDigest)
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("queue (-want +got):\n%s", diff)
		}
		return work
	}
	check(t, s.SetSnapshot(ctx, store.StoredSnapshot{Digest: "s1", Content: []byte("1")}))
	many := []core.PackageKey{a}
	for i := range 500 {
		many = append(many, core.PackageKey{Ecosystem: "Go", Name: strconv.Itoa(i)})
	}
	first := save("i1", "s1", "r1", many...)
	save("i2", "s1", "r2", b)
	if got := must[[]string](t)(s.ImagesWith(ctx, many, "", 10)); !slices.Equal(got, []string{"i1"}) {
		t.Errorf("images with many keys: %v", got)
	}
	if got := must[[]string](t)(s.ImagesWith(ctx, []core.PackageKey{a, b}, "i2", 10)); !slices.Equal(got, []string{"i2"}) {
		t.Errorf("images from i2 on: %v", got)
	}
	inv := must[store.Inventory](t)(s.Inventory(ctx, "i1"))
	if diff := cmp.Diff(store.Inventory{ReportDigest: "r1", Problems: []string{"one", "two"}}, inv); diff != "" {
		t.Errorf("inventory (-want +got):\n%s", diff)
	}
	queue(start)

	// Only what changed is asked for, and a lease holds.
	check(t, s.SetSnapshot(ctx, store.StoredSnapshot{Digest: "s2", Base: "s1", Content: []byte("2"), Changed: append(many[1:], b)}))
	queue(start, "i1", "i2")
	queue(start)
	work := queue(start.Add(time.Hour), "i1", "i2")
	// Another snapshot asks again while the images are worked on.
	check(t, s.SetSnapshot(ctx, store.StoredSnapshot{Digest: "s3", Base: "s2", Content: []byte("3"), Changed: []core.PackageKey{b}}))
	for _, w := range work {
		check(t, s.EndRematch(ctx, w))
	}
	for _, w := range queue(start.Add(time.Hour), "i2") {
		check(t, s.EndRematch(ctx, w))
	}
	queue(start.Add(2 * time.Hour))
	// Compared with a snapshot that was not in use: everything.
	check(t, s.SetSnapshot(ctx, store.StoredSnapshot{Digest: "s4", Base: "s1", Content: []byte("4")}))
	for _, w := range queue(start, "i1", "i2") {
		check(t, s.EndRematch(ctx, w))
	}
	// A scan that ends with an old snapshot is stale from the beginning.
	finished(t, s, "scan", image.WithDigest("i1"), start, first)
	queue(start.Add(3*time.Hour), "i1")
	if got := must[[]imageref.Ref](t)(s.Places(ctx, "i1")); len(got) != 1 || got[0] != image.WithDigest("i1") {
		t.Errorf("places %v", got)
	}
	save("i1", "s4", "r4", b)
	if got := must[[]string](t)(s.ImagesWith(ctx, []core.PackageKey{a}, "", 10)); len(got) != 0 {
		t.Errorf("the old inventory is still found: %v", got)
	}
}

func notFound(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	_, scan := s.Scan(ctx, "x")
	_, newest := s.NewestScan(ctx, image.WithDigest(digest), false)
	_, tag := s.TagDigest(ctx, image)
	_, report := s.Report(ctx, "x")
	_, inventory := s.Inventory(ctx, "x")
	_, current := s.CurrentSnapshot(ctx)
	_, snapshot := s.Snapshot(ctx, "x")
	for name, err := range map[string]error{
		"scan": scan, "newest": newest, "tag": tag, "report": report, "current": current, "inventory": inventory, "snapshot": snapshot,
		"finish": s.FinishScan(ctx, "x", nil, start),
	} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
