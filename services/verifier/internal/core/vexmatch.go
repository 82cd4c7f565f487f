package core

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/package-url/packageurl-go"
)

// notOCI says that a component cannot be an image at all.
const notOCI = "it is no image"

// imageMisses says why a component is not the image; empty if it is. An attached
// document is bound to the image by its subject, so the name may be enough there.
func (x *vexer) imageMisses(c *VexComponent, attached bool) string {
	if len(c.Digests) > 0 {
		if x.isImage(c.Digests...) {
			return ""
		}
		return fmt.Sprintf("%s has the digest %s, not that of the image", c.ID, c.Digests[0])
	}
	p, err := packageurl.FromString(c.Purl)
	if c.Purl == "" || err != nil || p.Type != "oci" && p.Type != "docker" {
		return notOCI
	}
	name := x.image.Repository[strings.LastIndexByte(x.image.Repository, '/')+1:]
	if p.Name != name {
		return fmt.Sprintf("%s is the image %s, not %s", c.ID, p.Name, name)
	}
	where := p.Qualifiers.Map()["repository_url"]
	if where != "" && !x.isRepository(where) {
		return fmt.Sprintf("%s is in %s, not in %s", c.ID, where, x.image.Name())
	}
	if p.Version != "" {
		if strings.HasPrefix(p.Version, "sha256:") && x.isImage(p.Version) || p.Version == x.image.Tag && p.Type == "docker" && attached {
			return ""
		}
		return fmt.Sprintf("%s is the version %s, not %s", c.ID, p.Version, x.platform)
	}
	if where == "" && !attached {
		return c.ID + " names neither a repository nor a digest: images of that name can be anywhere"
	}
	return ""
}

func (x *vexer) isImage(digests ...string) bool {
	return slices.Contains(digests, x.platform) || slices.Contains(digests, x.image.Digest)
}

// isRepository compares a repository_url, with or without the name at its end.
func (x *vexer) isRepository(where string) bool {
	where = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(where, "https://"), "http://"), "/")
	full := x.image.Name()
	return where == full || where == full[:strings.LastIndexByte(full, '/')]
}

// packageMisses says why a component is not the package of a finding; empty if it
// is. What the component does not say, a version or a qualifier, can be anything.
func packageMisses(f *Finding, c *VexComponent) string {
	if c.Purl == "" {
		return c.ID + " has no package URL"
	}
	want, err := packageurl.FromString(c.Purl)
	if err != nil {
		return c.ID + " is no package URL"
	}
	have, err := packageurl.FromString(f.Purl)
	if err != nil {
		return "the package of the finding has no package URL"
	}
	switch {
	case want.Type != have.Type || want.Namespace != have.Namespace || want.Name != have.Name:
		return fmt.Sprintf("%s is another package than %s", c.ID, f.Purl)
	case want.Version != "" && want.Version != have.Version:
		return fmt.Sprintf("%s is another version than %s", c.ID, have.Version)
	case want.Subpath != "" && want.Subpath != have.Subpath:
		return fmt.Sprintf("%s has another subpath than %s", c.ID, f.Purl)
	}
	qualifiers := have.Qualifiers.Map()
	for _, q := range want.Qualifiers {
		if qualifiers[q.Key] != q.Value {
			return fmt.Sprintf("%s asks for %s=%s, the package has %q", c.ID, q.Key, url.QueryEscape(q.Value), qualifiers[q.Key])
		}
	}
	return ""
}

func versioned(purl string) bool {
	p, err := packageurl.FromString(purl)
	return err == nil && p.Version != ""
}
