package core

import (
	"context"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

// BaseImage is the image that another was built on. The zero value is none known.
type BaseImage struct {
	Name string
	// Digest is of its manifest or of the index it is in.
	Digest string
	// LayerCount is the number of layers, from the lowest, that are its; 0 if that is
	// not known.
	LayerCount int
}

// Lineage knows the images that were scanned.
type Lineage interface {
	// Base returns what an image was built on, the same every time it is asked.
	Base(ctx context.Context, imageDigest string, layers []string, claim BaseImage) (BaseImage, error)
}

// Annotations and labels that name the base image.
const (
	annotationBaseName   = "org.opencontainers.image.base.name"
	annotationBaseDigest = "org.opencontainers.image.base.digest"
)

// claimedBase is what annotations of the manifest say of the base image, or else
// labels.
func claimedBase(annotations, labels map[string]string) BaseImage {
	for _, m := range []map[string]string{annotations, labels} {
		b := BaseImage{Name: clip(m[annotationBaseName]), Digest: m[annotationBaseDigest]}
		if imageref.CheckDigest(b.Digest) != nil {
			b.Digest = ""
		}
		if b != (BaseImage{}) {
			return b
		}
	}
	return BaseImage{}
}

// markBase tells of packages and findings whether a layer of the base image brought
// them.
func (r *Report) markBase() {
	base := map[string]bool{}
	for _, l := range r.Facts.Layers[:min(max(r.Facts.Base.LayerCount, 0), len(r.Facts.Layers))] {
		base[l] = true
	}
	for i := range r.Packages {
		r.Packages[i].InBase = base[r.Packages[i].LayerDigest]
	}
	for i := range r.Findings {
		r.Findings[i].InBase = base[r.Findings[i].LayerDigest]
	}
}
