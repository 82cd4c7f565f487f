package core

import (
	"fmt"
	"slices"
	"strings"

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

// mayConcern tells whether a statement that does not match may be about a finding all the
// same, because what it names cannot be compared: a tag, a CPE, no product at all.
func (x *vexer) mayConcern(f *Finding, s saying) bool {
	if len(s.Products) == 0 {
		return true
	}
	return slices.ContainsFunc(s.Products, func(p VexProduct) bool {
		if len(p.Subcomponents) == 0 {
			return x.mayBeImage(&p.VexComponent) || mayBePackage(f, &p.VexComponent)
		}
		if mayBePackage(f, &p.VexComponent) {
			return true
		}
		// A package with subcomponents may be in the image.
		if !x.mayBeImage(&p.VexComponent) && (isImage(&p.VexComponent) || len(p.Digests) > 0) {
			return false
		}
		return slices.ContainsFunc(p.Subcomponents, func(c VexComponent) bool { return mayBePackage(f, &c) })
	})
}

// mayBeImage tells whether a component may be the image. What has neither a package URL nor
// a digest may be anything.
func (x *vexer) mayBeImage(c *VexComponent) bool {
	if slices.ContainsFunc(c.Digests, func(d string) bool { return !slices.Contains(x.about.Digests, d) }) {
		return false
	}
	all := purls(c)
	return len(all) == 0 || slices.ContainsFunc(all, func(text string) bool {
		p, err := purl.Parse(text)
		return err != nil || p.MayBeImage(x.about)
	})
}

// mayBePackage tells whether a component may be the package of a finding.
func mayBePackage(f *Finding, c *VexComponent) bool {
	all := purls(c)
	if len(all) == 0 {
		return len(c.Digests) == 0
	}
	have, err := purl.Parse(f.Purl)
	return slices.ContainsFunc(all, func(text string) bool {
		p, wrong := purl.Parse(text)
		return wrong != nil || !p.IsImage() && (err != nil || p.MayBe(&have))
	})
}

func isImage(c *VexComponent) bool {
	return slices.ContainsFunc(purls(c), func(text string) bool {
		p, err := purl.Parse(text)
		return err == nil && p.IsImage()
	})
}

// purls are the package URLs of a component, which may contradict each other.
func purls(c *VexComponent) []string {
	var out []string
	if c.Purl != "" {
		out = append(out, c.Purl)
	}
	if isPurl := len(c.ID) > 4 && strings.EqualFold(c.ID[:4], "pkg:"); isPurl && c.ID != c.Purl {
		out = append(out, c.ID)
	}
	return out
}
