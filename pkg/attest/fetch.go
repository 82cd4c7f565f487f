package attest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
)

// Defaults of Limits.
const (
	DefaultMaxReferrers = 256
	DefaultMaxTotal     = 256 << 20
)

// Limits bound what Fetch reads. Zero values mean the defaults.
type Limits struct {
	// MaxReferrers is the largest number of bundles of one image that are read. The
	// default is DefaultMaxReferrers.
	MaxReferrers int
	// Partial has Fetch return what it read of a list that is too long or that the
	// registry does not give whole: the last element has ErrIncomplete then. Without it
	// such a list is an error of Fetch, because a part would look like all.
	Partial bool
	// First are the digests of the referrers that are read before all others, and the only
	// ones that are read if there are more than MaxReferrers: a part that somebody else
	// chooses is not worth the time. At most MaxReferrers of them are read, or maxFirst if
	// that is more.
	First []string
	// MaxBundle is the largest bundle in bytes, MaxTotal that of all together;
	// what is over gets Err, and what is over MaxTotal alone ErrIncomplete too. The defaults
	// are MaxBundle and DefaultMaxTotal.
	MaxBundle, MaxTotal int64
	// Stop is asked before each bundle that is not among First. Once it answers true no more
	// of those are read, and the list is ErrIncomplete. Nil never does.
	Stop func() bool
	// PredicateTypes, if not empty, leaves out bundles whose annotation names
	// another type. The annotation is not signed: lying in it can hide a bundle,
	// which whoever may write to the repository can do anyway, but not fake one.
	PredicateTypes []string
	// WithoutTypes leaves out bundles whose annotation names one of these types, unless
	// they are among First.
	WithoutTypes []string
}

// maxFirst is how many of Limits.First are read however small MaxReferrers is.
const maxFirst = 64

// Referred is a bundle attached to an image. Nothing about it is verified but
// that its bytes match its digest.
type Referred struct {
	// Descriptor is of the referrer's manifest, with the manifest's own artifact
	// type and annotations.
	registry.Descriptor
	// Bundle is nil if Err is set.
	Bundle []byte
	// BundleSize is what the manifest says of the bundle, in bytes; 0 if it says nothing
	// that is of use.
	BundleSize int64
	// Err says why this one could not be read; registry.Temporary says whether
	// trying again may help.
	Err error
}

// ErrIncomplete means that there may be more attestations than were read.
var ErrIncomplete = errors.New("not all attestations were read")

// Fetch reads all bundles attached to the digest of ref, in the order of their
// digests, First before the others. Other kinds of referrers are left out. The error is for the list as a
// whole; a bundle that cannot be read is in the result with its Err, and so is an
// entry of the list that names nothing.
func Fetch(ctx context.Context, c *registry.Client, ref imageref.Ref, limits Limits) ([]Referred, error) {
	limits = limits.withDefaults()
	listed, err := c.Referrers(ctx, ref, registry.Filter{
		ArtifactType: BundleMediaType,
		First:        limits.First,
		Keep: func(d registry.Descriptor) bool {
			return MayBeBundle(d) && limits.wants(d)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("list attestations: %w", err)
	}
	list, err := limits.choose(listed)
	if err != nil && !limits.Partial {
		return nil, fmt.Errorf("list attestations: %w", err)
	}
	out, stopped, failure := fetchAll(ctx, c, ref, list, limits)
	if failure != nil {
		return nil, failure
	}
	if stopped != nil {
		if err = stopped; !limits.Partial {
			return nil, fmt.Errorf("fetch attestations: %w", err)
		}
	}
	for _, r := range listed.Rejected {
		out = append(out, Referred{Descriptor: registry.Descriptor{Digest: r.Digest}, Err: malformed("list of referrers: "+r.Why, nil)})
	}
	if err != nil {
		out = append(out, Referred{Err: err})
	}
	return out, nil
}

// choose takes those that are read, First before the others and both in the order of their
// digests: which bundles fit in MaxTotal must not depend on the order of the registry, nor
// what is known to be there on what others attach. The error says why there are
// more.
func (l Limits) choose(listed registry.List) (list []registry.Descriptor, incomplete error) {
	list = listed.Referrers
	if listed.Incomplete != nil {
		incomplete = fmt.Errorf("%w: %w", ErrIncomplete, listed.Incomplete)
	}
	if n := len(list); n > l.MaxReferrers {
		incomplete = fmt.Errorf("%w: %w: %d referrers, the limit is %d", ErrTooLarge, ErrIncomplete, n, l.MaxReferrers)
	}
	if len(list) > l.MaxReferrers || errors.Is(listed.Incomplete, registry.ErrTooLarge) {
		list = slices.DeleteFunc(list, func(d registry.Descriptor) bool { return !slices.Contains(l.First, d.Digest) })
		list = list[:min(len(list), max(l.MaxReferrers, maxFirst))]
	}
	slices.SortFunc(list, func(a, b registry.Descriptor) int {
		return cmp.Or(cmp.Compare(l.rank(a), l.rank(b)), strings.Compare(a.Digest, b.Digest))
	})
	return list, incomplete
}

// rank is 0 for what is read first.
func (l Limits) rank(d registry.Descriptor) int {
	if slices.Contains(l.First, d.Digest) {
		return 0
	}
	return 1
}

// fetchAll reads a list. The second result says why it stopped before the end.
func fetchAll(ctx context.Context, c *registry.Client, ref imageref.Ref, list []registry.Descriptor, limits Limits) (out []Referred, stopped, err error) {
	left := limits.MaxTotal
	for i, d := range list {
		if err := ctx.Err(); err != nil {
			return nil, nil, fmt.Errorf("fetch attestations: %w", err)
		}
		if limits.Stop != nil && limits.rank(d) > 0 && limits.Stop() {
			return out, fmt.Errorf("%w: the time to read them is over after %d of %d", ErrIncomplete, i, len(list)), nil
		}
		r, isBundle := fetchOne(ctx, c, ref, d, min(limits.MaxBundle, left))
		if !isBundle || !limits.wants(r.Descriptor) {
			continue
		}
		if errors.Is(r.Err, ErrTooLarge) && r.BundleSize <= limits.MaxBundle {
			r.Err = fmt.Errorf("%w: %w", ErrIncomplete, r.Err)
		}
		left -= int64(len(r.Bundle))
		out = append(out, r)
	}
	return out, nil, nil
}

func (l Limits) withDefaults() Limits {
	if l.MaxReferrers == 0 {
		l.MaxReferrers = DefaultMaxReferrers
	}
	if l.MaxBundle == 0 {
		l.MaxBundle = MaxBundle
	}
	if l.MaxTotal == 0 {
		l.MaxTotal = DefaultMaxTotal
	}
	return l
}

// MayBeBundle judges by the list alone. Some registries name the type of the
// config instead of the artifact type; what has the empty one is looked at.
func MayBeBundle(d registry.Descriptor) bool {
	return d.ArtifactType == "" || d.ArtifactType == registry.MediaTypeEmpty || IsBundleType(d.ArtifactType)
}

// wants judges by the annotation alone; what has none is looked at.
func (l Limits) wants(d registry.Descriptor) bool {
	t, ok := d.Annotations[AnnotationPredicateType]
	switch {
	case !ok:
		return true
	case len(l.PredicateTypes) > 0 && !slices.Contains(l.PredicateTypes, t):
		return false
	default:
		return !slices.Contains(l.WithoutTypes, t) || slices.Contains(l.First, d.Digest)
	}
}

// bundleManifest is what is read of a referrer's manifest.
type bundleManifest struct {
	ArtifactType string                `json:"artifactType"`
	Layers       []registry.Descriptor `json:"layers"`
	Subject      *registry.Descriptor  `json:"subject"`
	Annotations  map[string]string     `json:"annotations"`
}

// fetchOne reads one referrer. It says whether that is, or may be, a bundle.
func fetchOne(ctx context.Context, c *registry.Client, ref imageref.Ref, listed registry.Descriptor, limit int64) (Referred, bool) {
	r := Referred{Descriptor: listed}
	repo := imageref.Ref{Registry: ref.Registry, Repository: ref.Repository}
	d, raw, err := c.Manifest(ctx, repo.WithDigest(listed.Digest))
	if err != nil {
		r.Err = err
		return r, true
	}
	var m bundleManifest
	if err := strictjson.Unmarshal(raw, &m); err != nil {
		r.Err = malformed("manifest", err)
		return r, true
	}
	r.Descriptor = d
	r.ArtifactType, r.Annotations = m.ArtifactType, m.Annotations
	if !IsBundleType(m.ArtifactType) {
		return r, false
	}
	if m.Subject == nil || m.Subject.Digest != ref.Digest {
		r.Err = fmt.Errorf("%w: the manifest refers elsewhere", ErrWrongSubject)
		return r, true
	}
	if len(m.Layers) != 1 || !IsBundleType(m.Layers[0].MediaType) {
		r.Err = malformed("manifest is not of exactly one bundle", nil)
		return r, true
	}
	r.BundleSize = m.Layers[0].Size
	r.Bundle, err = c.ReadBlob(ctx, repo, m.Layers[0], limit)
	if errors.Is(err, registry.ErrTooLarge) {
		err = fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	if err != nil {
		r.Bundle, r.Err = nil, err
	}
	return r, true
}

// Verify verifies the bundle like the function Verify, and says in the result
// which referrer it was. An Err of r is returned.
func (r Referred) Verify(subjectDigest string, roots TrustRoots) (*Verified, error) {
	if r.Err != nil {
		return nil, r.Err
	}
	v, err := Verify(r.Bundle, subjectDigest, roots)
	if err != nil {
		return nil, err
	}
	v.ManifestDigest = r.Digest
	v.CreateTime = r.created()
	return v, nil
}

// created is zero if the annotation is missing or not a time.
func (r Referred) created() time.Time {
	t, err := time.Parse(time.RFC3339, r.Annotations[AnnotationCreated])
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// IsBundleType says whether a media type is that of a Sigstore bundle, v0.1 to v0.3.
func IsBundleType(mediaType string) bool {
	return mediaType == BundleMediaType || strings.HasPrefix(mediaType, "application/vnd.dev.sigstore.bundle+json;version=0.")
}
