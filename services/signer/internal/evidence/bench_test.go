package evidence_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
)

// BenchmarkAttach attaches three attestations to a new image each time: decided,
// signed, logged, written and read back. x-bare is how many images go through in
// the time that go-containerregistry puts the same three manifests with their
// layers to the same registry, measured in the same run.
func BenchmarkAttach(b *testing.B) {
	f := newFixture(b, true)
	w := f.writer(b, f.store)
	var ours, bare time.Duration
	for b.Loop() {
		b.StopTimer()
		ref, other := f.registry.PushImage("team/app"), f.registry.PushImage("team/bare")
		b.StartTimer()
		begin := time.Now()
		if _, err := w.Attach(b.Context(), ref, claims("first")); err != nil {
			b.Fatal(err)
		}
		attached := time.Now()
		b.StopTimer()
		images := f.copies(b, ref)
		b.StartTimer()
		put := time.Now()
		for i, img := range images {
			target, err := name.NewTag(fmt.Sprintf("%s/%s:bare%d-%s", other.Registry, other.Repository, i, other.Digest[7:20]), name.Insecure)
			if err != nil {
				b.Fatal(err)
			}
			if err := remote.Write(target, img); err != nil {
				b.Fatal(err)
			}
		}
		ours, bare = ours+attached.Sub(begin), bare+time.Since(put)
	}
	b.ReportMetric(float64(bare)/float64(ours), "x-bare")
	b.ReportMetric(3*float64(b.N)/ours.Seconds(), "attestations/s")
}

// copies are images with the layers of what was attached to ref, for another
// client to push.
func (f *fixture) copies(b *testing.B, ref imageref.Ref) []v1.Image {
	b.Helper()
	found, err := attest.Fetch(b.Context(), f.registry.Client(), ref, attest.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	var out []v1.Image
	for _, r := range found {
		img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, "application/vnd.oci.image.manifest.v1+json"),
			static.NewLayer(append([]byte(nil), append(r.Bundle, ' ')...), attest.BundleMediaType))
		if err != nil {
			b.Fatal(err)
		}
		out = append(out, img)
	}
	return out
}

// BenchmarkAttach_Memory attaches one large bill of materials. x-document is the
// most that the heap grew meanwhile, in sizes of the document, which itself is not
// counted.
func BenchmarkAttach_Memory(b *testing.B) {
	const size = 24 << 20
	f := newFixture(b, true)
	w := f.writer(b, f.store)
	doc := json.RawMessage(`{"packages":["` + strings.Repeat(`pkg:deb/debian/libc6@2.36","`, size/28) + `"]}`)
	peak := uint64(0)
	for b.Loop() {
		ref := f.registry.PushImage("team/app")
		claim := core.Predicate{Type: core.PredicateSPDX, ContentKey: core.Digest(doc), Time: start, JSON: doc}
		runtime.GC()
		before := heap()
		stop := watchHeap(b.Context(), &peak, before)
		if _, err := w.Attach(b.Context(), ref, []core.Predicate{claim}); err != nil {
			b.Fatal(err)
		}
		stop()
	}
	b.ReportMetric(float64(peak)/float64(len(doc)), "x-document")
}

func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// watchHeap raises peak to the most that the heap grows until the result is called.
func watchHeap(ctx context.Context, peak *uint64, before uint64) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if now := heap(); now > before {
				*peak = max(*peak, now-before)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return func() { cancel(); <-done }
}
