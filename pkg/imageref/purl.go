package imageref

import (
	"net/url"
	"strings"
)

// PURL is the package URL, of type oci, of the manifest with a digest in a repository.
// name is "registry/repository"; a name without a registry, such as that of a local
// file, gives no repository_url.
//
// All documents about a manifest name it by this function, so that one artifact has
// one package URL: name and digest decide it and nothing else. The optional qualifiers
// tag and arch are left out, because a tag moves and the digest says which platform it is.
// The spelling is the canonical one of the package URL specification.
func PURL(name, digest string) string {
	last, registered := lastComponent(name)
	var b strings.Builder
	b.WriteString("pkg:oci/")
	b.WriteString(escapePURL(strings.ToLower(last)))
	if digest != "" {
		b.WriteByte('@')
		b.WriteString(escapePURL(strings.ToLower(digest)))
	}
	if registered {
		b.WriteString("?repository_url=")
		b.WriteString(escapePURL(strings.ToLower(name)))
	}
	return b.String()
}

// SamePURL tells whether a package URL names the manifest with a digest in a repository
// in any spelling: escapes, letter case where it means nothing, and qualifiers that do
// not change what is named (arch, tag) are ignored. The repository must be there and be
// the same.
func SamePURL(purl, name, digest string) bool {
	const maxLength = 4096
	rest, ok := strings.CutPrefix(purl, "pkg:oci/")
	if !ok || len(purl) > maxLength || strings.Contains(rest, "#") || digest == "" {
		return false
	}
	path, query, _ := strings.Cut(rest, "?")
	path, err := url.PathUnescape(path)
	if err != nil {
		return false
	}
	gotName, gotDigest, _ := strings.Cut(path, "@")
	qualifiers, err := url.ParseQuery(query)
	if err != nil {
		return false
	}
	for key, values := range qualifiers {
		switch {
		case len(values) != 1:
			return false
		case key != "repository_url" && key != "arch" && key != "tag":
			return false
		}
	}
	last, _ := lastComponent(name)
	return strings.EqualFold(gotName, last) && strings.EqualFold(gotDigest, digest) &&
		strings.EqualFold(qualifiers.Get("repository_url"), name)
}

// lastComponent returns what follows the last slash of a name, if there is one.
func lastComponent(name string) (last string, found bool) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return name, false
	}
	return name[i+1:], true
}

// escapePURL escapes what the package URL specification wants escaped: everything but
// letters, digits, ".-_~" and the colon.
func escapePURL(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if isLowerAlnum(c) || c >= 'A' && c <= 'Z' || strings.IndexByte(".-_~:", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', hex[c>>4], hex[c&15]})
	}
	return b.String()
}
