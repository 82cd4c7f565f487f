package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

// fleet is what the index should say: the packages of images.
type fleet struct {
	store  store.Store
	rng    *rand.Rand
	images map[string][]core.IndexedPackage
	// layers are what images are made of: those that share one share its set.
	layers [][]core.IndexedPackage
	// names is how many names packages have, unique whether every layer is another.
	names    int
	unique   bool
	snapshot int
	now      time.Time
}

func (f *fleet) layer(n int) []core.IndexedPackage {
	var out []core.IndexedPackage
	if f.unique {
		out = append(out, core.IndexedPackage{PackageVersion: core.PackageVersion{Name: strconv.Itoa(n)}, Layer: fmt.Sprintf("layer%d", n)})
	}
	for range 1 + f.rng.IntN(6) {
		name := fmt.Sprintf("p%d", f.rng.IntN(f.names))
		ecosystem, base := "npm", "npm"
		if f.rng.IntN(2) == 0 {
			ecosystem, base = fmt.Sprintf("Debian:%d", 11+f.rng.IntN(2)), "Debian"
		}
		out = append(out, core.IndexedPackage{
			PackageVersion: core.PackageVersion{Ecosystem: ecosystem, Name: name, Version: strconv.Itoa(f.rng.IntN(3))},
			Base:           base, OwnName: name + []string{"", "-dev"}[f.rng.IntN(2)], Layer: fmt.Sprintf("layer%d", n),
		})
	}
	return out
}

// put stores the inventory of an image. A layer may lack a package that a later one
// removed.
func (f *fleet) put(t *testing.T, image string) {
	t.Helper()
	packages := []core.IndexedPackage{}
	for range f.rng.IntN(4) {
		if f.unique || f.rng.IntN(3) == 0 {
			f.layers = append(f.layers, f.layer(len(f.layers)))
		}
		l := f.layers[f.rng.IntN(len(f.layers))]
		if f.unique {
			l = f.layers[len(f.layers)-1]
		}
		packages = append(packages, l[f.rng.IntN(2)*(len(l)-1):]...)
	}
	f.images[image] = packages
	must[core.ReportRef](t)(f.store.PutReport(t.Context(), store.StoredReport{
		Ref:            core.ReportRef{ImageDigest: image, ReportDigest: fmt.Sprintf("r-%s-%d", image, f.rng.Uint64())},
		SnapshotDigest: strconv.FormatUint(f.rng.Uint64(), 10), ScannerVersion: "1", Content: []byte("{}"), Time: start, Packages: packages,
	}))
}

// with are the images that have a package that matches, in order.
func (f *fleet) with(matches func(p *core.IndexedPackage) bool) []string {
	var out []string
	for image, packages := range f.images {
		if slices.ContainsFunc(packages, func(p core.IndexedPackage) bool { return matches(&p) }) {
			out = append(out, image)
		}
	}
	slices.Sort(out)
	return out
}

func (f *fleet) keys() []core.PackageKey {
	var out []core.PackageKey
	for range 1 + f.rng.IntN(3) {
		name := fmt.Sprintf("p%d%s", f.rng.IntN(f.names+2), []string{"", "", "-dev"}[f.rng.IntN(3)])
		out = append(out, core.PackageKey{Ecosystem: []string{"npm", "Debian"}[f.rng.IntN(2)], Name: name})
	}
	return out
}

// check compares what the store says with what is so.
func (f *fleet) check(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	keys := f.keys()
	has := func(base, name string) bool {
		return slices.Contains(keys, core.PackageKey{Ecosystem: base, Name: name})
	}
	var got []string
	for from := ""; ; {
		page := must[[]string](t)(f.store.ImagesWith(ctx, keys, from, 7))
		got = append(got, page...)
		if len(page) < 7 {
			break
		}
		from = page[6] + "0"
	}
	want := f.with(func(p *core.IndexedPackage) bool { return has(p.Base, p.Name) || has(p.Base, p.OwnName) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("images with %v (-want +got):\n%s", keys, diff)
	}
	version := strconv.Itoa(f.rng.IntN(3))
	differs := func(v core.PackageVersion) bool { return v.Version == version && v.Ecosystem != "Debian:12" }
	base := fmt.Sprint("s", f.snapshot)
	f.snapshot++
	check(t, f.store.SetSnapshot(ctx, store.StoredSnapshot{Digest: fmt.Sprint("s", f.snapshot), Base: base, Changed: keys, Differs: differs}))
	want = f.with(func(p *core.IndexedPackage) bool { return has(p.Base, p.Name) && differs(p.PackageVersion) })
	f.now = f.now.Add(time.Hour)
	got = nil
	for _, w := range must[[]store.Rematch](t)(f.store.LeaseRematches(ctx, f.now, f.now.Add(time.Minute), 1_000_000)) {
		got = append(got, w.ImageDigest)
		check(t, f.store.EndRematch(ctx, w))
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("images that version %s of %v changes (-want +got):\n%s", version, keys, diff)
	}
}

func newFleet(t *testing.T, s store.Store, names int) *fleet {
	t.Helper()
	f := &fleet{names: names, store: s, rng: rand.New(rand.NewPCG(1, 2)), images: map[string][]core.IndexedPackage{}, now: start} //nolint:gosec // a test that can be run again
	f.layers = append(f.layers, f.layer(0))
	check(t, s.SetSnapshot(t.Context(), store.StoredSnapshot{Digest: "s0"}))
	return f
}

// packageSets: whatever images come, change and share, the index says exactly which
// have a package and which a delta changes, and what nobody has is removed.
func packageSets(t *testing.T, s store.Store) {
	t.Helper()
	f := newFleet(t, s, 40)
	for i := range 60 {
		f.put(t, number(f.rng.IntN(25)))
		if i%3 == 0 {
			f.check(t)
		}
		if i%20 == 19 {
			for must[int64](t)(s.PruneIndex(t.Context(), 5)) > 0 {
			}
			f.check(t)
		}
	}
	for image := range f.images {
		f.images[image] = nil
		must[core.ReportRef](t)(s.PutReport(t.Context(), store.StoredReport{
			Ref: core.ReportRef{ImageDigest: image, ReportDigest: "empty-" + image}, SnapshotDigest: "e", ScannerVersion: "1",
			Content: []byte("{}"), Time: start, Packages: []core.IndexedPackage{},
		}))
	}
	f.check(t)
	for must[int64](t)(s.PruneIndex(t.Context(), 1000)) > 0 {
	}
}

// Spread checks the index when sets lie far apart, so that packages are in many blocks:
// apart is called before every image and makes it so.
func Spread(t *testing.T, s store.Store, apart func()) {
	t.Helper()
	f := newFleet(t, s, 4)
	f.unique = true
	for i := range 450 {
		apart()
		f.put(t, number(i))
	}
	for range 20 {
		f.check(t)
	}
}
