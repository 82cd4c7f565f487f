package core

import (
	"fmt"
	"slices"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/purl"
)

// notImage says that a component cannot be an image at all.
const notImage = "it is no image"

// imageMisses says why a component is not the image; empty if it is. All that the
// component says has to match. An attached document is bound to the image by its
// subject, so the name may be enough there.
func (x *vexer) imageMisses(c *VexComponent, attached bool) string {
	if c.Unmatched != "" {
		return c.ID + " " + c.Unmatched
	}
	for _, d := range c.Digests {
		if !slices.Contains(x.about.Digests, d) {
			return fmt.Sprintf("%s has the digest %s, not that of the image", c.ID, d)
		}
	}
	if c.Purl == "" && len(c.Digests) > 0 {
		return ""
	}
	p, err := purl.Parse(c.Purl)
	switch {
	case err != nil || !p.IsImage():
		return notImage
	default:
		if why := p.MissesImage(x.about, attached || len(c.Digests) > 0); why != "" {
			return c.ID + " " + why
		}
		return ""
	}
}

// packageMisses says why a component is not the package of a finding; empty if it
// is.
func packageMisses(f *Finding, c *VexComponent) string {
	switch {
	case c.Unmatched != "":
		return c.ID + " " + c.Unmatched
	case len(c.Digests) > 0:
		return c.ID + " names a digest, and those of packages are not known"
	case c.Purl == "":
		return c.ID + " has no package URL"
	}
	want, err := purl.Parse(c.Purl)
	if err != nil {
		return c.ID + " is no package URL"
	}
	if err := want.Unmatchable(); err != nil {
		return c.ID + " can match no package: " + err.Error()
	}
	have, err := purl.Parse(f.Purl)
	if err != nil {
		return "the package of the finding has no package URL"
	}
	if why := want.Misses(&have); why != "" {
		return c.ID + " " + why
	}
	return ""
}

func versioned(s string) bool {
	p, err := purl.Parse(s)
	return err == nil && p.Version != ""
}
