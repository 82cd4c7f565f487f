package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/lru"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// Opener opens a layer of an image in the registry. The reader verifies the
// digest and fails at the end if the content does not have it.
type Opener interface {
	Layer(ctx context.Context, ref imageref.Ref, d core.Descriptor) (io.ReadCloser, error)
}

// Extractor takes inventories. It is safe for use by several goroutines.
type Extractor struct {
	opener  Opener
	limits  Limits
	layers  int
	options Options
	plugins *plugins
	kinds   []secretKind
	buffers *buffers
	cache   Cache
	known   *knownLayers
	set     string
}

// Options are what is looked for beside packages. The zero value is the default.
type Options struct {
	// SkipSecrets looks for no credentials.
	SkipSecrets bool
	// MaxKnown is how many bytes of what was found in the layers used last are held in
	// memory beside the cache; 0 holds nothing. Without a cache it means nothing.
	MaxKnown config.Bytes
}

// New returns an extractor that reads as many layers of an image at once as
// layers says.
func New(opener Opener, limits Limits, layers int) (*Extractor, error) {
	return NewWith(opener, limits, layers, Options{})
}

// NewWith is New with options.
func NewWith(opener Opener, limits Limits, layers int, o Options) (*Extractor, error) {
	ps, err := newPlugins(limits, o)
	if err != nil {
		return nil, err
	}
	return &Extractor{
		opener: opener, limits: limits, layers: max(layers, 1), options: o, plugins: ps, kinds: secretKinds(),
		buffers: newBuffers(limits), known: lru.New[string, *layerResult](int64(o.MaxKnown), nil), set: ExtractorSet(limits, o),
	}, nil
}

// UseCache makes the extractor look for known layers in c, and keep there what it
// reads. It is called before the first image.
func (x *Extractor) UseCache(c Cache) { x.cache = c }

// Set is the version of the set of extractors that layers are stored with.
func (x *Extractor) Set() string { return x.set }

// Extract returns the inventory of an image with the given layers, lowest first.
// Errors are faults: LAYER_CORRUPT and LIMIT_EXCEEDED of the image, others of the
// registry.
func (x *Extractor) Extract(ctx context.Context, ref imageref.Ref, layers []core.Descriptor) (inv core.Inventory, err error) {
	defer contain(&err)
	results, err := x.readLayers(ctx, ref, layers)
	if err != nil {
		return core.Inventory{}, err
	}
	m := newMerger(x.limits.MaxPackages)
	m.remember = x.cache != nil && x.options.MaxKnown > 0
	for i, r := range results {
		if r == nil {
			m.problems = append(m.problems, fmt.Sprintf("layer %d has the unsupported media type %.100q", i, layers[i].MediaType))
			r = &layerResult{digest: layers[i].Digest}
		}
		m.add(r)
	}
	inv = m.inventory()
	if m.over || len(inv.Packages) > x.limits.MaxPackages {
		return core.Inventory{}, tooManyPackages(x.limits)
	}
	if len(inv.Problems) > maxProblems {
		rest := len(inv.Problems) - maxProblems
		inv.Problems = append(inv.Problems[:maxProblems:maxProblems], fmt.Sprintf("~ and %d more problems", rest))
	}
	return inv, nil
}

// contain turns a panic into an error, so that what a hostile image provokes ends the
// scan of this image and not the process with all others.
func contain(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("panic while reading an image: %v\n%s", r, debug.Stack())
	}
}

// maxProblems is how many problems a report names one by one.
const maxProblems = 100

// readLayers returns one result a layer; nil for a layer of a foreign kind.
func (x *Extractor) readLayers(ctx context.Context, ref imageref.Ref, layers []core.Descriptor) ([]*layerResult, error) {
	b := newBudget(x.limits)
	results := make([]*layerResult, len(layers))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(x.layers)
	for i, l := range layers {
		if !supported(l.MediaType) {
			continue
		}
		g.Go(func() (err error) {
			defer contain(&err)
			res, err := x.layer(gctx, ref, l, b)
			if err != nil {
				return x.explain(err, l.Digest)
			}
			results[i] = res
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return results, nil
}

// layer returns the outcome of a layer. A layer that is known is not pulled.
func (x *Extractor) layer(ctx context.Context, ref imageref.Ref, l core.Descriptor, b *budget) (*layerResult, error) {
	known, err := x.cached(ctx, l.Digest, b)
	if err != nil {
		return nil, err
	}
	if known != nil {
		return known, known.verify(l.DiffID)
	}
	r := &layerReader{plugins: x.plugins, budget: b, buffers: x.buffers}
	res, err := r.read(ctx, l.Digest, func() (io.ReadCloser, error) { return x.opener.Layer(ctx, ref, l) })
	if err != nil {
		return nil, err
	}
	if err := res.verify(l.DiffID); err != nil {
		return nil, err
	}
	return res, x.keep(ctx, res)
}

// verify refuses a layer that is not the one the image's configuration names. Runtimes do
// not unpack a layer whose diff_id they have already: with another image's diff_ids, that
// image would run in place of the one that was scanned.
func (r *layerResult) verify(diffID string) error {
	if diffID != "" && r.diffID != diffID {
		return core.NewFault(core.ReasonLayerCorrupt, "it decompresses to %s, the image's configuration says %.80q", r.diffID, diffID)
	}
	return nil
}

// explain names the layer in the fault that people see.
func (x *Extractor) explain(err error, digest string) error {
	var f *core.FaultError
	if errors.As(err, &f) {
		named := *f
		named.Message = fmt.Sprintf("layer %.80q: %s", digest, f.Message)
		return &named
	}
	return fmt.Errorf("layer %s: %w", digest, err)
}

// supported tells whether a layer is a tar archive. Encrypted layers and layers
// of artifacts are not.
func supported(mediaType string) bool {
	for _, prefix := range []string{
		"application/vnd.oci.image.layer.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.docker.image.rootfs.diff.tar",
		"application/vnd.docker.image.rootfs.foreign.diff.tar",
	} {
		if rest, ok := strings.CutPrefix(mediaType, prefix); ok {
			switch rest {
			case "", "+gzip", ".gzip", "+zstd", ".zstd":
				return true
			}
		}
	}
	return false
}
