// Package affected tells which of the images that were scanned have a vulnerability
// or a package. It asks the index of stored inventories which images may have it, and
// their newest reports whether they do.
package affected

import (
	"context"
	"errors"
	"fmt"
	"slices"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

const (
	// maxReports bounds the reports that one page reads.
	maxReports = 500
	// batch is how many images are asked of the index at a time.
	batch = 100
	// maxListed bounds the findings and the packages of one image.
	maxListed = 100
)

var (
	// ErrNoSnapshot says that no advisories were imported yet.
	ErrNoSnapshot = errors.New("no advisories are in use: import some (seaworthyctl advisories import)")
	// ErrUnknown says that no advisory has the id or names it.
	ErrUnknown = errors.New("no advisory in use has this id")
	// ErrPURL says that a package URL cannot be read.
	ErrPURL = errors.New("not a package URL")
)

// Reports reads reports by their digest.
type Reports interface {
	Report(ctx context.Context, digest string) (*scannerv1.Report, error)
}

// Advisories is the snapshot in use.
type Advisories interface {
	// About returns the packages that a vulnerability affects; ok is false without a
	// snapshot.
	About(id string) (keys []core.PackageKey, ok bool, err error)
}

// Finder answers.
type Finder struct {
	Store      store.Store
	Reports    Reports
	Advisories Advisories
}

// Image is an image that is affected.
type Image struct {
	Digest string
	// Places are where it was scanned. A tag is there if it still means the digest.
	Places   []imageref.Ref
	Findings []*scannerv1.Finding
	Packages []*scannerv1.Package
}

// question is what is looked for: where it may be, and what of a report it is.
type question struct {
	keys []core.PackageKey
	find func(r *scannerv1.Report, into *Image)
}

// ByAdvisory lists at most n images that have a vulnerability, from a digest on.
// next is where the following page begins; empty after the last.
func (f *Finder) ByAdvisory(ctx context.Context, id, from string, n int) (images []Image, next string, err error) {
	keys, ok, err := f.Advisories.About(id)
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("advisories about %s: %w", id, err)
	case !ok:
		return nil, "", ErrNoSnapshot
	case len(keys) == 0:
		return nil, "", ErrUnknown
	}
	return f.page(ctx, question{keys, func(r *scannerv1.Report, into *Image) {
		for _, found := range r.GetFindings() {
			if slices.Contains(found.GetAliases(), id) && len(into.Findings) < maxListed {
				into.Findings = append(into.Findings, found)
			}
		}
	}}, from, n)
}

// ByPURL lists at most n images that have a package; as ByAdvisory.
func (f *Finder) ByPURL(ctx context.Context, purl, from string, n int) (images []Image, next string, err error) {
	w, err := parseWanted(purl)
	if err != nil {
		return nil, "", err
	}
	return f.page(ctx, question{w.keys(), func(r *scannerv1.Report, into *Image) {
		for _, p := range r.GetPackages() {
			if w.is(p) && len(into.Packages) < maxListed {
				into.Packages = append(into.Packages, p)
			}
		}
	}}, from, n)
}

func (f *Finder) page(ctx context.Context, q question, from string, n int) (images []Image, next string, err error) {
	for read := 0; read < maxReports; {
		candidates, err := f.Store.ImagesWith(ctx, q.keys, from, batch)
		if err != nil {
			return nil, "", err
		}
		for _, digest := range candidates {
			if len(images) == n {
				return images, digest, nil
			}
			read++
			image, err := f.image(ctx, digest, q)
			if err != nil {
				return nil, "", fmt.Errorf("image %s: %w", digest, err)
			}
			if image != nil {
				images = append(images, *image)
			}
			from = digest + "0" // above it, and not above the next: all have the same length
		}
		if len(candidates) < batch {
			return images, "", nil
		}
	}
	return images, from, nil
}

// image looks at one image; nil if it is not affected, or gone meanwhile.
func (f *Finder) image(ctx context.Context, digest string, q question) (*Image, error) {
	inv, err := f.Store.Inventory(ctx, digest)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil //nolint:nilnil // not affected, and no error
	}
	if err != nil {
		return nil, err
	}
	r, err := f.Reports.Report(ctx, inv.ReportDigest)
	if err != nil {
		return nil, err
	}
	image := &Image{Digest: digest}
	q.find(r, image)
	if len(image.Findings)+len(image.Packages) == 0 {
		return nil, nil //nolint:nilnil // not affected, and no error
	}
	image.Places, err = f.places(ctx, digest)
	return image, err
}

// places drops the tags that mean another image by now.
func (f *Finder) places(ctx context.Context, digest string) ([]imageref.Ref, error) {
	places, err := f.Store.Places(ctx, digest)
	if err != nil {
		return nil, err
	}
	tagged := map[string]bool{}
	for i, p := range places {
		if p.Tag == "" {
			continue
		}
		now, err := f.Store.TagDigest(ctx, p)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		if now != p.Digest {
			places[i].Tag = ""
			continue
		}
		tagged[p.Name()+"@"+p.Digest] = true
	}
	seen := map[imageref.Ref]bool{}
	return slices.DeleteFunc(places, func(p imageref.Ref) bool {
		// The same without a tag says less.
		drop := seen[p] || p.Tag == "" && tagged[p.Name()+"@"+p.Digest]
		seen[p] = true
		return drop
	}), nil
}
