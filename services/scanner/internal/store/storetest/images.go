package storetest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

func number(n int) string { return "sha256:" + fmt.Sprintf("%064d", n) }

// scanned makes a scan of an image, by its digest or by that of its index.
func scanned(t *testing.T, s store.Store, id string, img imageref.Ref, platform string, created time.Time) {
	t.Helper()
	ref := must[core.ReportRef](t)(s.PutReport(t.Context(), store.StoredReport{
		Ref: core.ReportRef{ImageDigest: platform, ReportDigest: "report-" + platform}, SnapshotDigest: "s", ScannerVersion: "1",
		Content: []byte("{}"), Time: created,
	}))
	finished(t, s, id, img, created, ref)
}

func baseImages(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	layers := func(n int) []string {
		var out []string
		for i := range n {
			out = append(out, number(100+i))
		}
		return out
	}
	base := func(image string, n int, claim core.BaseImage) core.BaseImage {
		t.Helper()
		return must[core.BaseImage](t)(s.Base(ctx, image, layers(n), claim, start))
	}
	none := core.BaseImage{}
	if got := base(number(1), 1, none); got != none {
		t.Errorf("the first image: %+v", got)
	}
	// An image whose scan did not end is the base of none.
	if got := base(number(2), 3, none); got != none {
		t.Errorf("on an image without a report: %+v", got)
	}
	debian := imageref.Ref{Registry: "r.example", Repository: "debian", Tag: "12"}
	scanned(t, s, "1", debian.WithDigest(number(9)), number(1), start)
	// What was decided stays.
	if got := base(number(2), 3, none); got != none {
		t.Errorf("decided again: %+v", got)
	}
	scanned(t, s, "2", image.WithDigest(number(2)), number(2), start)
	for _, c := range []struct {
		name   string
		digest string
		layers int
		claim  core.BaseImage
		want   core.BaseImage
	}{
		{"longest prefix", number(3), 5, none, core.BaseImage{Name: "r.example:5000/team/app:v1", Digest: number(2), LayerCount: 3}},
		{"shorter prefix", number(4), 2, none, core.BaseImage{Name: "r.example/debian:12", Digest: number(1), LayerCount: 1}},
		{"equal layers are no base", number(5), 1, none, none},
		{"claim of the manifest", number(6), 5, core.BaseImage{Name: "debian:12", Digest: number(1)}, core.BaseImage{Name: "debian:12", Digest: number(1), LayerCount: 1}},
		{"claim of the index", number(7), 5, core.BaseImage{Digest: number(9)}, core.BaseImage{Name: "r.example/debian:12", Digest: number(9), LayerCount: 1}},
		{"claim of something unknown", number(8), 5, core.BaseImage{Name: "x", Digest: number(50)}, core.BaseImage{Name: "x", Digest: number(50)}},
		{"claim of a name", number(10), 5, core.BaseImage{Name: "x", LayerCount: 4}, core.BaseImage{Name: "x"}},
		{"no layers", number(11), 0, none, none},
	} {
		for range 2 {
			if got := base(c.digest, c.layers, c.claim); got != c.want {
				t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
			}
		}
	}
	// Replicas that decide at once decide the same.
	var wg sync.WaitGroup
	got := make([]core.BaseImage, 4)
	for i := range got {
		wg.Go(func() {
			b, err := s.Base(ctx, number(12), layers(4), core.BaseImage{Name: strconv.Itoa(i)}, start)
			if err != nil {
				t.Error(err)
			}
			got[i] = b
		})
	}
	wg.Wait()
	for _, b := range got {
		if b != got[0] {
			t.Errorf("replicas decided differently: %+v", got)
		}
	}
}

func prunedLayers(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	put := func(digest, set string, at time.Time) { check(t, s.PutLayer(ctx, digest, set, []byte("x"), at)) }
	put(number(1), "new", start)                  // of an image
	put(number(1), "old", start)                  // found by another release
	put(number(2), "new", start)                  // of no image
	put(number(3), "new", start.Add(time.Hour))   // of no image yet
	put(number(3), "old", start.Add(2*time.Hour)) // of a release that still runs
	must[core.BaseImage](t)(s.Base(ctx, number(7), []string{number(1)}, core.BaseImage{}, start))
	if n := must[int64](t)(s.PruneLayers(ctx, "new", start.Add(time.Minute))); n != 2 {
		t.Errorf("%d removed", n)
	}
	for _, c := range []struct {
		digest, set string
		gone        bool
	}{{number(1), "new", false}, {number(1), "old", true}, {number(2), "new", true}, {number(3), "new", false}, {number(3), "old", false}} {
		if _, err := s.Layer(ctx, c.digest, c.set); errors.Is(err, store.ErrNotFound) != c.gone {
			t.Errorf("%s %s: %v", c.digest, c.set, err)
		}
	}
}
