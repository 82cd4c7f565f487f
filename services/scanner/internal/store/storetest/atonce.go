package storetest

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

// atOnce runs f for 0…n-1, all at the same time.
func atOnce(n int, f func(i int)) {
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-begin
			f(i)
		})
	}
	close(begin)
	all.Wait()
}

// push stores what the scan of a pushed image stores, with the snapshot in use.
func push(t *testing.T, s store.Store, name string, packages ...string) {
	t.Helper()
	ctx := t.Context()
	snapshot, err := s.CurrentSnapshot(ctx)
	if err != nil {
		t.Error(err)
		return
	}
	indexed := make([]core.IndexedPackage, 0, len(packages))
	for _, p := range packages {
		indexed = append(indexed, core.IndexedPackage{
			PackageVersion: core.PackageVersion{Ecosystem: "npm", Name: p, Version: "1"}, Base: "npm", OwnName: p, Layer: p,
		})
	}
	report, err := s.PutReport(ctx, store.StoredReport{
		Ref:            core.ReportRef{ImageDigest: name, ReportDigest: name + "@" + snapshot},
		SnapshotDigest: snapshot, ScannerVersion: "1", Packages: indexed, Time: start,
	})
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := s.CreateScan(ctx, store.Scan{ID: name, Image: image, State: store.Queued, CreateTime: start}); err != nil {
		t.Error(err)
	}
	if err := s.FinishScan(ctx, name, []core.ReportRef{report}, start); err != nil {
		t.Error(err)
	}
}

// with are the images with a package, as the index says.
func with(t *testing.T, s store.Store, name string) []string {
	t.Helper()
	return must[[]string](t)(s.ImagesWith(t.Context(), []core.PackageKey{{Ecosystem: "npm", Name: name}}, "", 1000))
}

// sharedSets: images that bring the same new packages at the same moment are all found
// by them, and by those of their own.
func sharedSets(t *testing.T, s store.Store) {
	t.Helper()
	check(t, s.SetSnapshot(t.Context(), store.StoredSnapshot{Digest: "s1"}))
	for round := range 5 {
		shared := "shared" + strconv.Itoa(round)
		var want []string
		for i := range 6 {
			want = append(want, fmt.Sprintf("i%d-%d", round, i))
		}
		atOnce(len(want), func(i int) { push(t, s, want[i], shared, want[i]) })
		if got := with(t, s, shared); !slices.Equal(got, want) {
			t.Errorf("with the package of all: %v, want %v", got, want)
		}
		for _, name := range want {
			if got := with(t, s, name); !slices.Equal(got, []string{name}) {
				t.Errorf("with the package of %s: %v", name, got)
			}
		}
	}
}

// tidyAndUse: what nobody has any more is tidied away at the moment in which an image
// comes that has it again.
func tidyAndUse(t *testing.T, s store.Store) {
	t.Helper()
	check(t, s.SetSnapshot(t.Context(), store.StoredSnapshot{Digest: "s1"}))
	for round := range 15 {
		first, second := fmt.Sprintf("a%d", round), fmt.Sprintf("b%d", round)
		push(t, s, first, "p")
		check(t, s.SetSnapshot(t.Context(), store.StoredSnapshot{Digest: "s" + strconv.Itoa(round+2)}))
		push(t, s, first) // has no package now
		atOnce(2, func(i int) {
			if i == 0 {
				if _, err := s.PruneIndex(t.Context(), 100); err != nil {
					t.Error(err)
				}
				return
			}
			push(t, s, second, "p")
		})
		if got := with(t, s, "p"); !slices.Equal(got, []string{second}) {
			t.Fatalf("round %d: with the package: %v, want %s", round, got, second)
		}
		check(t, s.SetSnapshot(t.Context(), store.StoredSnapshot{Digest: "t" + strconv.Itoa(round)}))
		push(t, s, second)
	}
}

// finishedTwice: of two that finish a scan with different results, one does.
func finishedTwice(t *testing.T, s store.Store) {
	t.Helper()
	for round := range 8 {
		id := strconv.Itoa(round)
		must[store.Scan](t)(s.CreateScan(t.Context(), store.Scan{ID: id, Image: image, State: store.Queued, CreateTime: start}))
		var results [2][]core.ReportRef
		for i := range results {
			for j := range 1 + i {
				name := fmt.Sprintf("%d-%d-%d", round, i, j)
				results[i] = append(results[i], put(t, s, "image"+name, "s", "report"+name))
			}
		}
		atOnce(2, func(i int) {
			if err := s.FinishScan(t.Context(), id, results[i], start); err != nil {
				t.Error(err)
			}
		})
		got := must[store.Scan](t)(s.Scan(t.Context(), id)).Reports
		if !slices.Equal(got, results[0]) && !slices.Equal(got, results[1]) {
			t.Errorf("a mixture of two results: %v", got)
		}
	}
}

// feedsAtOnce: lists that are set at the same moment do not mix.
func feedsAtOnce(t *testing.T, s store.Store) {
	t.Helper()
	lists := [][]store.Feed{{{Name: "a", Digest: "1"}, {Name: "b", Digest: "1"}}, {{Name: "a", Digest: "2"}, {Name: "c", Digest: "2"}}, {{Name: "d"}}}
	for range 8 {
		atOnce(len(lists), func(i int) {
			if err := s.SetFeeds(t.Context(), lists[i]); err != nil {
				t.Error(err)
			}
		})
		got := must[[]store.Feed](t)(s.Feeds(t.Context()))
		if !slices.ContainsFunc(lists, func(l []store.Feed) bool { return cmp.Equal(l, got) }) {
			t.Errorf("a mixture of lists: %v", got)
		}
	}
}

// seedAtOnce: one of several replicas sets the first snapshot.
func seedAtOnce(t *testing.T, s store.Store) {
	t.Helper()
	var seeded atomic.Int64
	atOnce(6, func(i int) {
		ok, err := s.SeedSnapshot(t.Context(), store.StoredSnapshot{Digest: strconv.Itoa(i)})
		if err != nil {
			t.Error(err)
		}
		if ok {
			seeded.Add(1)
		}
	})
	if n := seeded.Load(); n != 1 {
		t.Errorf("%d replicas set the first snapshot", n)
	}
}

// leasedOnce: replicas that ask at the same moment get different images, and between
// them all.
func leasedOnce(t *testing.T, s store.Store) {
	t.Helper()
	const images, replicas = 40, 4
	check(t, s.SetSnapshot(t.Context(), store.StoredSnapshot{Digest: "s1"}))
	for i := range images {
		push(t, s, fmt.Sprintf("i%02d", i))
	}
	check(t, s.SetSnapshot(t.Context(), store.StoredSnapshot{Digest: "s2", ChangedAll: true}))
	var mu sync.Mutex
	var got []string
	atOnce(replicas, func(int) {
		work, err := s.LeaseRematches(t.Context(), start, start.Add(time.Minute), images/replicas)
		if err != nil || len(work) != images/replicas {
			t.Errorf("%d images, %v", len(work), err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, w := range work {
			got = append(got, w.ImageDigest)
		}
	})
	slices.Sort(got)
	if len(slices.Compact(slices.Clone(got))) != images {
		t.Errorf("images leased: %v", got)
	}
}

// snapshotAmongPushes: pushes come without a break, and the snapshot in use changes all
// the same, at once. Every image of the changed package is either in the queue or has a
// report of the newest snapshot.
func snapshotAmongPushes(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	check(t, s.SetSnapshot(ctx, store.StoredSnapshot{Digest: "s0"}))
	stop := make(chan struct{})
	var pushers sync.WaitGroup
	var mu sync.Mutex
	var pushed []string
	for pusher := range 4 {
		pushers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprintf("i%d-%04d", pusher, i)
				push(t, s, name, "p", "own"+name)
				mu.Lock()
				pushed = append(pushed, name)
				mu.Unlock()
			}
		})
	}
	const switches = 5
	differs := 0
	for i := range switches {
		time.Sleep(100 * time.Millisecond) // there must be pushes before and between
		differs = 0
		check(t, s.SetSnapshot(ctx, store.StoredSnapshot{
			Digest: "s" + strconv.Itoa(i+1), Base: "s" + strconv.Itoa(i), Changed: []core.PackageKey{{Ecosystem: "npm", Name: "p"}},
			Differs: func(core.PackageVersion) bool { differs++; return true },
		}))
		// It is asked once for the one version: the first attempt succeeded.
		if differs != 1 {
			t.Errorf("switch %d read the index %d times", i, differs)
		}
	}
	close(stop)
	pushers.Wait()
	queued := map[string]bool{}
	for _, w := range must[[]store.Rematch](t)(s.LeaseRematches(ctx, start, start.Add(time.Minute), 100_000)) {
		queued[w.ImageDigest] = true
	}
	newest := "s" + strconv.Itoa(switches)
	for _, name := range pushed {
		inventory := must[store.Inventory](t)(s.Inventory(ctx, name))
		if !queued[name] && inventory.ReportDigest != name+"@"+newest {
			t.Errorf("%s has report %s and is not in the queue", name, inventory.ReportDigest)
		}
	}
	t.Logf("%d pushes, %d in the queue", len(pushed), len(queued))
}
