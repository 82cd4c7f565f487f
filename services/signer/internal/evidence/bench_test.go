package evidence_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
)

// BenchmarkAttach attaches three attestations to each of many new images, as events with
// a `concurrency` of 4 (the default) and 16 do: decided, signed, logged, written and read back.
// x-bare is how many go through in the time that go-containerregistry pushes the same
// manifests, with their subjects and layers, to the same registry, as many images at a
// time as a writer has requests under way, by one Pusher, which is the least that can be
// done. x-write is the same by a remote.WriteLayer and a remote.Put for each, as programs
// do that attach one attestation: each call greets the registry. Both list a manifest where
// the registry does not; those of one image are written in turns, since
// go-containerregistry loses what it lists side by side. All is measured in the same run,
// in turns. Each image has a repository of its own: this registry looks for referrers
// through all of one.
func BenchmarkAttach(b *testing.B) {
	for name, api := range map[string]bool{"referrers API": true, "referrers tag": false} {
		for _, concurrency := range []int{4, 16} {
			b.Run(fmt.Sprintf("%s/concurrency %d", name, concurrency), func(b *testing.B) { benchmarkAttach(b, newFixture(b, api), concurrency) })
		}
	}
}

func benchmarkAttach(b *testing.B, f *fixture, concurrency int) {
	b.Helper()
	// Most events only wait for their second look, and lend their places (eventbus.Idle).
	const images, underWay = 128, 16
	w := f.writer(b, f.store)
	pusher, err := remote.NewPusher()
	if err != nil {
		b.Fatal(err)
	}
	var ours, bare, single time.Duration
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		var refs []imageref.Ref
		for i := range images {
			refs = append(refs, f.registry.PushImage(fmt.Sprintf("team/app%d-%d", n, i)))
		}
		b.StartTimer()
		ours += f.together(b, underWay*concurrency, images, func(i int) error {
			_, err := w.Attach(b.Context(), refs[i], claims("first"))
			return err
		})
		b.StopTimer()
		for client, total := range map[bareClient]*time.Duration{pusherClient{pusher}: &bare, singleCalls{}: &single} {
			copies := make([]*bareImage, images)
			for i, ref := range refs {
				copies[i] = f.bareImage(b, ref, fmt.Sprintf("team/%s%d-%d", client.name(), n, i), client.spaces())
			}
			*total += f.together(b, registry.DefaultMaxConcurrent, images, func(i int) error { return copies[i].push(b.Context(), client) })
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(bare)/float64(ours), "x-bare")
	b.ReportMetric(float64(single)/float64(ours), "x-write")
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

// bareImage is an image with what another client has to attach to it.
type bareImage struct {
	repository name.Repository
	manifests  []artifact
	layers     []v1.Layer
}

// artifact is a manifest as go-containerregistry puts it.
type artifact []byte

func (a artifact) RawManifest() ([]byte, error)        { return a, nil }
func (a artifact) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// bareImage pushes a new image and makes of what is attached to ref manifests and layers
// of the same sizes for it: those of ref the registry would not store again, so spaces
// are added.
func (f *fixture) bareImage(b *testing.B, ref imageref.Ref, repository, spaces string) *bareImage {
	b.Helper()
	found, err := attest.Fetch(b.Context(), f.registry.Client(), ref, attest.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	if len(found) != len(claims("first")) {
		b.Fatalf("%d are attached", len(found))
	}
	image := f.registry.PushImage(repository)
	subject, err := f.registry.Client().Resolve(b.Context(), image)
	if err != nil {
		b.Fatal(err)
	}
	out := &bareImage{}
	if out.repository, err = name.NewRepository(f.registry.Host+"/"+repository, name.Insecure); err != nil {
		b.Fatal(err)
	}
	for _, r := range found {
		bundle := append(slices.Clone(r.Bundle), spaces...)
		manifest, err := attest.Manifest(subject, registry.Digest(bundle), int64(len(bundle)), r.Annotations[attest.AnnotationPredicateType], f.clock)
		if err != nil {
			b.Fatal(err)
		}
		out.manifests = append(out.manifests, manifest)
		out.layers = append(out.layers, static.NewLayer(bundle, attest.BundleMediaType))
	}
	return out
}

func (i *bareImage) push(ctx context.Context, client bareClient) error {
	if err := client.layer(ctx, i.repository, static.NewLayer([]byte("{}"), registry.MediaTypeEmpty)); err != nil {
		return err
	}
	for n, manifest := range i.manifests {
		if err := client.layer(ctx, i.repository, i.layers[n]); err != nil {
			return err
		}
		if err := client.manifest(ctx, i.repository.Digest(registry.Digest(manifest)), manifest); err != nil {
			return err
		}
	}
	return nil
}

// bareClient is a way to use go-containerregistry.
type bareClient interface {
	name() string
	// spaces keep what it writes apart from what others write.
	spaces() string
	layer(ctx context.Context, r name.Repository, l v1.Layer) error
	manifest(ctx context.Context, d name.Digest, a artifact) error
}

type pusherClient struct{ *remote.Pusher }

func (pusherClient) name() string   { return "bare" }
func (pusherClient) spaces() string { return " " }

func (c pusherClient) layer(ctx context.Context, r name.Repository, l v1.Layer) error {
	return c.Upload(ctx, r, l)
}

func (c pusherClient) manifest(ctx context.Context, d name.Digest, a artifact) error {
	return c.Put(ctx, d, a)
}

type singleCalls struct{}

func (singleCalls) name() string   { return "single" }
func (singleCalls) spaces() string { return "  " }

func (singleCalls) layer(ctx context.Context, r name.Repository, l v1.Layer) error {
	return remote.WriteLayer(r, l, remote.WithContext(ctx))
}

func (singleCalls) manifest(ctx context.Context, d name.Digest, a artifact) error {
	return remote.Put(d, a, remote.WithContext(ctx))
}
