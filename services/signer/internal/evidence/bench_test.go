package evidence_test

import (
	"fmt"

	"slices"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"golang.org/x/sync/errgroup"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
)

// BenchmarkAttach attaches three attestations to each of eight new images, four images
// at a time, as many as events are handled by default, and to each of 32, sixteen at a
// time (`concurrency: 16`): decided, signed, logged, written and read back. x-bare is how many go through in the time that
// go-containerregistry writes the same manifests with their layers to the same registry,
// eight at a time, as many as a writer has requests under way. All is measured in the
// same run, in turns. Each image has a repository of its own: this registry looks
// for referrers through all of one.
func BenchmarkAttach(b *testing.B) {
	for name, api := range map[string]bool{"referrers API": true, "referrers tag": false} {
		for _, events := range []int{4, 16} {
			b.Run(fmt.Sprintf("%s/%d at a time", name, events), func(b *testing.B) { benchmarkAttach(b, newFixture(b, api), events) })
		}
	}
}

func benchmarkAttach(b *testing.B, f *fixture, events int) {
	b.Helper()
	images := 2 * events
	w := f.writer(b, f.store)
	var ours, bare time.Duration
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		var refs []imageref.Ref
		for i := range images {
			refs = append(refs, f.registry.PushImage(fmt.Sprintf("team/app%d-%d", n, i)))
		}
		b.StartTimer()
		ours += f.together(b, events, images, func(i int) error {
			_, err := w.Attach(b.Context(), refs[i], claims("first"))
			return err
		})
		b.StopTimer()
		var layers []v1.Image
		for i, ref := range refs {
			layers = append(layers, f.copies(b, ref)...)
			f.registry.PushImage(fmt.Sprintf("team/bare%d-%d", n, i))
		}
		bare += f.together(b, registry.DefaultMaxConcurrent, len(layers), func(i int) error {
			target, err := name.NewTag(fmt.Sprintf("%s/team/bare%d-%d:bare%d", f.registry.Host, n, i/3, i), name.Insecure)
			if err != nil {
				return err
			}
			return remote.Write(target, layers[i])
		})
		b.StartTimer()
	}
	b.ReportMetric(float64(bare)/float64(ours), "x-bare")
	b.ReportMetric(float64(3*images*b.N)/ours.Seconds(), "attestations/s")
}

// together does something n times, some at a time, and says how long it took.
func (f *fixture) together(b *testing.B, atOnce, n int, do func(i int) error) time.Duration {
	b.Helper()
	begin := time.Now()
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i := range n {
		g.Go(func() error { return do(i) })
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	return time.Since(begin)
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
			static.NewLayer(append(slices.Clone(r.Bundle), ' '), attest.BundleMediaType))
		if err != nil {
			b.Fatal(err)
		}
		out = append(out, img)
	}
	return out
}
