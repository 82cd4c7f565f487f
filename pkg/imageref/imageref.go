// Package imageref parses and checks image references:
//
//	[host[:port]/]path[:tag][@sha256:<64 hex>]
//
// The grammar is that of the OCI distribution specification (repository names
// and tags) and of the reference format of CNCF distribution, restricted to
// sha256 digests and to names that need no normalisation. Only the standard
// library is used, so that the decision core of every service may import it.
package imageref

import (
	"errors"
	"fmt"
	"strings"
)

// Limits, the same as in seaworthy.type.v1.ImageRef. All in bytes.
const (
	// MaxRegistry bounds host and port.
	MaxRegistry = 255
	// MaxRepository bounds the repository path.
	MaxRepository = 255
	// MaxTag bounds the tag.
	MaxTag = 128
	// DigestSize is the length of "sha256:" and 64 hex digits.
	DigestSize = 7 + 64
	// MaxInput bounds what Parse looks at: the parts and their separators.
	MaxInput = MaxRegistry + 1 + MaxRepository + 1 + MaxTag + 1 + DigestSize
)

const (
	dockerHub  = "docker.io"
	defaultTag = "latest"
)

// Ref names an image in a registry. The zero Ref is not valid.
type Ref struct {
	// Registry is the host and optional port, lower case.
	Registry string
	// Repository is the path within the registry.
	Repository string
	// Tag is empty if the image is named by digest only.
	Tag string
	// Digest is empty or "sha256:" and 64 lower-case hex digits.
	Digest string
}

// Parse reads a reference. A name without a registry is one of docker.io; a
// single-component name of docker.io is in "library/"; a name with neither tag
// nor digest has the tag "latest". Input that would need any other guessing is
// an error.
func Parse(s string) (Ref, error) {
	if s == "" {
		return Ref{}, errors.New("image reference is empty")
	}
	if len(s) > MaxInput {
		return Ref{}, fmt.Errorf("image reference of %d bytes exceeds the limit of %d", len(s), MaxInput)
	}
	var r Ref
	rest := s
	if name, digest, ok := strings.Cut(rest, "@"); ok {
		r.Digest, rest = digest, name
		if digest == "" {
			return Ref{}, fmt.Errorf("image reference %q: empty digest", s)
		}
	}
	// A colon after the last slash starts a tag; one before it is a port.
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		r.Tag, rest = rest[i+1:], rest[:i]
		if r.Tag == "" {
			return Ref{}, fmt.Errorf("image reference %q: empty tag", s)
		}
	}
	r.Registry, r.Repository = splitHost(rest)
	if r.Tag == "" && r.Digest == "" {
		r.Tag = defaultTag
	}
	if err := r.Validate(); err != nil {
		return Ref{}, fmt.Errorf("image reference %q: %w", s, err)
	}
	return r, nil
}

// splitHost takes the first component as the registry if it can only be one:
// it has a dot or a port, is an IPv6 literal, or is "localhost".
func splitHost(name string) (registry, repository string) {
	first, rest, ok := strings.Cut(name, "/")
	if ok && (strings.ContainsAny(first, ".:[") || first == "localhost") {
		registry, repository = first, rest
	} else {
		registry, repository = dockerHub, name
	}
	if registry == "index.docker.io" {
		registry = dockerHub
	}
	if registry == dockerHub && repository != "" && !strings.Contains(repository, "/") {
		repository = "library/" + repository
	}
	return registry, repository
}

// String is the canonical text; Parse(r.String()) gives r back for a valid r.
func (r Ref) String() string {
	var b strings.Builder
	b.WriteString(r.Name())
	if r.Tag != "" {
		b.WriteByte(':')
		b.WriteString(r.Tag)
	}
	if r.Digest != "" {
		b.WriteByte('@')
		b.WriteString(r.Digest)
	}
	return b.String()
}

// Name is "registry/repository".
func (r Ref) Name() string { return r.Registry + "/" + r.Repository }

// WithDigest returns a copy that names the digest and keeps the tag.
func (r Ref) WithDigest(d string) Ref {
	r.Digest = d
	return r
}

// PartError says which part of a reference is at fault: `registry`, `repository`, `tag`
// or `digest`.
type PartError struct {
	Part string
	err  error
}

// Error implements error.
func (e *PartError) Error() string { return e.err.Error() }

// Unwrap gives what is wrong with the part.
func (e *PartError) Unwrap() error { return e.err }

// Validate checks every part against the grammar and the limits; its error is a
// *PartError if one part is at fault. A Ref needs a tag or a digest.
func (r Ref) Validate() error {
	if err := checkRegistry(r.Registry); err != nil {
		return &PartError{"registry", err}
	}
	if err := checkRepository(r.Repository); err != nil {
		return &PartError{"repository", err}
	}
	if r.Tag == "" && r.Digest == "" {
		return errors.New("neither tag nor digest")
	}
	if r.Tag != "" {
		if err := checkTag(r.Tag); err != nil {
			return &PartError{"tag", err}
		}
	}
	if r.Digest != "" {
		if err := CheckDigest(r.Digest); err != nil {
			return &PartError{"digest", err}
		}
	}
	return nil
}
