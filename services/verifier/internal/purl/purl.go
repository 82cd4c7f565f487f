// Package purl compares package URLs: of exceptions and VEX statements with those of
// packages and images.
//
// All that a package URL says has to match. What it leaves out, a version or a
// qualifier, can be anything. Two spellings of one package URL are the same.
package purl

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/package-url/packageurl-go"
)

// MaxLength is the length of the longest package URL that is read, in bytes.
const MaxLength = 4096

// Purl is a package URL in its canonical form.
type Purl struct {
	Type, Namespace, Name, Version, Subpath string
	// Qualifiers by their lower-case name; those without a value do not count.
	Qualifiers map[string]string
}

// Parse reads a package URL.
func Parse(s string) (Purl, error) {
	if len(s) > MaxLength {
		return Purl{}, fmt.Errorf("the package URL of %d bytes exceeds the limit of %d", len(s), MaxLength)
	}
	if len(s) < 4 || !strings.EqualFold(s[:4], "pkg:") {
		return Purl{}, errors.New("a package URL begins with `pkg:`")
	}
	// Slashes after the scheme mean nothing, but net/url would decode what follows them
	// once more.
	u, err := packageurl.FromString("pkg:" + strings.TrimLeft(s[4:], "/"))
	if err != nil {
		return Purl{}, fmt.Errorf("not a package URL: %w", err)
	}
	p := Purl{
		Type: u.Type, Namespace: u.Namespace, Name: u.Name, Version: u.Version, Subpath: u.Subpath, Qualifiers: map[string]string{},
	}
	for _, text := range []string{p.Namespace, p.Name, p.Version, p.Subpath} {
		if !utf8.ValidString(text) {
			return Purl{}, errors.New("not a package URL: it is not UTF-8")
		}
	}
	for _, q := range u.Qualifiers {
		p.Qualifiers[q.Key] = q.Value
	}
	p.fold()
	return p, nil
}

var separators = regexp.MustCompile(`[-_.]+`)

// fold undoes differences of spelling that mean nothing in the type's registry, beyond
// those that the library knows.
func (p *Purl) fold() {
	switch p.Type {
	case packageurl.TypePyPi:
		p.Name = separators.ReplaceAllString(strings.ToLower(p.Name), "-")
	case packageurl.TypeNPM, packageurl.TypeHex, packageurl.TypeOCI, packageurl.TypeDocker:
		p.Namespace, p.Name = strings.ToLower(p.Namespace), strings.ToLower(p.Name)
	case packageurl.TypeNuget, packageurl.TypePub:
		p.Name = strings.ToLower(p.Name)
	}
	if p.IsImage() && len(p.Version) > 7 && strings.EqualFold(p.Version[:7], "sha256:") {
		p.Version = strings.ToLower(p.Version)
	}
}

// IsImage tells whether the package URL names a container image.
func (p *Purl) IsImage() bool {
	return p.Type == packageurl.TypeOCI || p.Type == packageurl.TypeDocker
}

// Unmatchable says why nothing can ever match the package URL; nil if something can.
func (p *Purl) Unmatchable() error {
	switch {
	case p.Qualifiers["vers"] != "" || strings.HasPrefix(p.Version, "vers:") || strings.ContainsAny(p.Version, "<>*|"):
		return errors.New("it names a range of versions: name one version, or none for every version")
	case p.IsImage() && p.Qualifiers["tag"] != "":
		return errors.New("it names a tag, which can be moved to another image: name the image by its digest, as the version, or by its repository alone")
	case p.IsImage() && p.Version != "" && !strings.HasPrefix(p.Version, "sha256:"):
		return errors.New("its version is a tag, which can be moved to another image: name the image by its digest, as the version, or by its repository alone")
	}
	return nil
}

// Misses says why a package is not one that p names; empty if it is.
func (p *Purl) Misses(have *Purl) string {
	switch {
	case p.Type != have.Type || p.Namespace != have.Namespace || p.Name != have.Name:
		return "is another package than " + have.name()
	case p.Version != "" && p.Version != have.Version:
		return "is another version than " + have.Version
	case p.Subpath != "" && p.Subpath != have.Subpath:
		return "has another subpath than " + have.name()
	}
	for _, key := range slices.Sorted(maps.Keys(p.Qualifiers)) {
		if p.Qualifiers[key] != have.Qualifiers[key] {
			return fmt.Sprintf("asks for %s=%s, the package has %q", key, p.Qualifiers[key], have.Qualifiers[key])
		}
	}
	return ""
}

// MayBe tells whether a package can be one that p names, if what cannot be compared is
// left out: a range of versions, and what only one of the two says.
func (p *Purl) MayBe(have *Purl) bool {
	if p.Type != have.Type || p.Namespace != have.Namespace || p.Name != have.Name {
		return false
	}
	differ := func(a, b string) bool { return a != "" && b != "" && a != b }
	if p.Unmatchable() == nil && differ(p.Version, have.Version) || differ(p.Subpath, have.Subpath) {
		return false
	}
	for key, value := range p.Qualifiers {
		if key != "vers" && differ(value, have.Qualifiers[key]) {
			return false
		}
	}
	return true
}

// MayBeImage tells whether an image can be one that p names, if what cannot be compared is
// left out: tags, ranges of versions, paths and unknown qualifiers.
func (p *Purl) MayBeImage(i Image) bool {
	known := *p
	known.Subpath, known.Qualifiers = "", map[string]string{}
	for _, key := range []string{"repository_url", "arch"} {
		if value := p.Qualifiers[key]; value != "" {
			known.Qualifiers[key] = value
		}
	}
	if !strings.HasPrefix(p.Version, "sha256:") {
		known.Version = ""
	}
	return p.IsImage() && known.MissesImage(i, true) == ""
}

// Equal tells whether two package URLs say the same.
func (p *Purl) Equal(other *Purl) bool {
	return p.Misses(other) == "" && other.Misses(p) == ""
}

func (p *Purl) name() string {
	u := packageurl.PackageURL{Type: p.Type, Namespace: p.Namespace, Name: p.Name, Version: p.Version}
	return u.ToString()
}

// Image is what a package URL of an image is compared with.
type Image struct {
	Registry, Repository string
	// Digests of the index, if there is one, and of the platform's manifest.
	Digests []string
	// Architecture and Variant of the platform.
	Architecture, Variant string
}

// MissesImage says why an image is not one that p names; empty if it is. Bound tells
// that something else has named the image already, so that its name is enough.
func (p *Purl) MissesImage(i Image, bound bool) string {
	if err := p.Unmatchable(); err != nil {
		return "can match no image: " + err.Error()
	}
	full := i.Registry + "/" + i.Repository
	name := i.Repository[strings.LastIndexByte(i.Repository, '/')+1:]
	where := repositoryURL(p.Qualifiers["repository_url"])
	arch := p.Qualifiers["arch"]
	switch {
	case p.Name != name:
		return fmt.Sprintf("is the image %s, not %s", p.Name, name)
	case p.Namespace != "" && i.Repository != p.Namespace+"/"+name && full != p.Namespace+"/"+name:
		return fmt.Sprintf("is in %s/, not in %s", p.Namespace, full)
	case where != "" && where != full && where+"/"+name != full && (p.Namespace == "" || where+"/"+p.Namespace+"/"+name != full):
		return fmt.Sprintf("is in %s, not in %s", where, full)
	case p.Version != "" && !slices.Contains(i.Digests, p.Version):
		return fmt.Sprintf("has the digest %s, not that of the image", p.Version)
	case arch != "" && arch != i.Architecture && (i.Variant == "" || arch != i.Architecture+"/"+i.Variant):
		return fmt.Sprintf("is for %s, not for %s", arch, i.Architecture)
	case p.Subpath != "":
		return "names a path in the image, which no image is"
	case p.Version == "" && where == "" && !bound:
		return "names neither a repository nor a digest: images of that name can be anywhere"
	}
	for _, key := range slices.Sorted(maps.Keys(p.Qualifiers)) {
		if key != "repository_url" && key != "arch" {
			return fmt.Sprintf("asks for %s=%s, which cannot be compared with an image", key, p.Qualifiers[key])
		}
	}
	return ""
}

// repositoryURL is the address of a registry or repository without its scheme.
func repositoryURL(s string) string {
	if i := strings.Index(s, "://"); i >= 0 && (strings.EqualFold(s[:i], "https") || strings.EqualFold(s[:i], "http")) {
		s = s[i+3:]
	}
	host, path, _ := strings.Cut(strings.TrimRight(s, "/"), "/")
	switch host = strings.ToLower(host); host {
	case "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com":
		host = "docker.io"
	}
	if path == "" {
		return host
	}
	return host + "/" + path
}
