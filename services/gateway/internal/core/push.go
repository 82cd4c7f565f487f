// Package core decides what a webhook's events mean: which of them are pushes of
// images, which are of no interest and why. It knows no transport.
package core

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

// Action is what was done in a registry.
type Action int

// Actions.
const (
	// ActionOther is a pull, a mount, or anything that is not known.
	ActionOther Action = iota
	ActionPush
	ActionDelete
)

// Event is one event of a registry, as far as it matters here. Every field but Path and
// Action comes from outside and may hold anything.
type Event struct {
	// ID is the registry's identity of the event.
	ID string
	// Path is where the event is in the body, for errors.
	Path   string
	Action Action
	// Repository, Tag and Digest say to what. Tag is empty for a push by digest.
	Repository, Tag, Digest string
	// MediaType and ArtifactType are those of the target.
	MediaType, ArtifactType string
	// References are what the target refers to, if the registry says so.
	References []Reference
	// Host is where the client reached the registry, by the client's own word.
	Host string
}

// Reference is something a manifest refers to.
type Reference struct {
	MediaType, ArtifactType string
}

// Push is a push of an image.
type Push struct {
	// EventID is the registry's identity of the event; may be empty.
	EventID string
	// Image has the registry of the source, never one that the event names.
	Image imageref.Ref
	// MediaType is that of the manifest.
	MediaType string
}

// HintKind says what a hint is about.
type HintKind int

// Kinds of hints.
const (
	// HintReferrer is a push of evidence about an image.
	HintReferrer HintKind = iota + 1
	// HintDeleted is the deletion of a manifest, or of a blob: registries do not always
	// tell them apart.
	HintDeleted
)

// Hint is an event that says no more than that the registry has changed.
type Hint struct {
	Kind HintKind
	// EventID is the registry's identity of the event; may be empty.
	EventID string
	// Image is what the hint is about: the subject of a referrer, by digest, which is
	// empty if the event does not tell, or what was deleted.
	Image imageref.Ref
	// Referrer is the digest of the pushed manifest.
	Referrer string
	// ArtifactType as the registry named it.
	ArtifactType string
}

// Reason says why an event is of no interest. The values are metric labels.
type Reason string

// Reasons for which events are filtered.
const (
	// ReasonAction is a pull, mount, deletion of a tag, or an action not known.
	ReasonAction Reason = "action"
	// ReasonNotManifest is a push of a blob.
	ReasonNotManifest Reason = "not_manifest"
	// ReasonOwnArtifact is an attestation, a signature, an SBOM or a tag that
	// lists such: ours or another tool's. To scan them would be an echo. They are
	// hints, unless the event does not even name a digest and a repository.
	ReasonOwnArtifact Reason = "own_artifact"
	// ReasonDigestAlgorithm is a push by a digest alone that is well-formed but not
	// SHA-256. The registry would repeat an event that we refuse forever and hold back
	// all that follow, so it is counted instead.
	ReasonDigestAlgorithm Reason = "digest_algorithm"
)

// InvalidError says which field of an event is invalid and why.
type InvalidError struct {
	// Path is where the event is in the body, Field is digest, repository or tag.
	Path, Field string
	// Err says what is wrong with it.
	Err error
}

// Error implements error.
func (e *InvalidError) Error() string { return fmt.Sprintf("%s.%s: %v", e.Path, e.Field, e.Err) }

// Unwrap returns the cause.
func (e *InvalidError) Unwrap() error { return e.Err }

// Classifier decides for the events of one source.
type Classifier struct {
	// Registry is the host and optional port that the source may speak for.
	Registry string
	// IsOwnArtifact recognises attestations and their like.
	IsOwnArtifact func(mediaType, artifactType, tag string) bool
}

// manifestTypes are the media types of what can be an image.
var manifestTypes = map[string]bool{
	"application/vnd.oci.image.manifest.v1+json":                true,
	"application/vnd.oci.image.index.v1+json":                   true,
	"application/vnd.docker.distribution.manifest.v2+json":      true,
	"application/vnd.docker.distribution.manifest.list.v2+json": true,
}

// Classify returns a push, or the reason why the event is none, or an
// *InvalidError if it is an invalid push.
func (c Classifier) Classify(e Event) (*Push, Reason, error) {
	if e.Action != ActionPush {
		return nil, ReasonAction, nil
	}
	// Only manifests have tags. One of another type gives its tag a new meaning too.
	if !manifestTypes[e.MediaType] && e.Tag == "" {
		return nil, ReasonNotManifest, nil
	}
	if c.isOwn(e) {
		return nil, ReasonOwnArtifact, nil
	}
	if otherDigest(e.Digest) {
		if e.Tag == "" {
			return nil, ReasonDigestAlgorithm, nil
		}
		// The tag has a new meaning, which the fleet cannot judge but must know of.
		e.Digest = ""
	} else if err := imageref.CheckDigest(e.Digest); err != nil {
		return nil, "", &InvalidError{Path: e.Path, Field: "digest", Err: err}
	}
	// Tag and repository are checked apart so that the error names the right one.
	ref := imageref.Ref{Registry: c.Registry, Repository: e.Repository, Digest: e.Digest}
	if e.Digest == "" {
		ref.Tag = "latest" // any valid one
	}
	if err := ref.Validate(); err != nil {
		return nil, "", &InvalidError{Path: e.Path, Field: "repository", Err: err}
	}
	ref.Tag = e.Tag
	if err := ref.Validate(); err != nil {
		return nil, "", &InvalidError{Path: e.Path, Field: "tag", Err: err}
	}
	return &Push{EventID: e.ID, Image: ref, MediaType: e.MediaType}, "", nil
}

// Hint returns what an event that is no push of an image hints at, or nil. An invalid hint
// is no error: nothing depends on it.
func (c Classifier) Hint(e Event) *Hint {
	ref := imageref.Ref{Registry: c.Registry, Repository: e.Repository, Digest: e.Digest}
	if ref.Digest == "" || ref.Validate() != nil {
		return nil
	}
	switch {
	case e.Action == ActionDelete:
		return &Hint{Kind: HintDeleted, EventID: e.ID, Image: ref}
	case e.Action == ActionPush && manifestTypes[e.MediaType] && c.isOwn(e):
		h := &Hint{Kind: HintReferrer, EventID: e.ID, Image: ref, Referrer: e.Digest, ArtifactType: e.ArtifactType}
		h.Image.Digest = subjectOf(e.Tag)
		return h
	default:
		return nil
	}
}

// subjectOf is the image that a tag lists referrers of, as in sha256-<hex> and
// sha256-<hex>.att, or empty.
func subjectOf(tag string) string {
	rest, ok := strings.CutPrefix(tag, "sha256-")
	if !ok {
		return ""
	}
	sum, _, _ := strings.Cut(rest, ".")
	digest := "sha256:" + sum
	if imageref.CheckDigest(digest) != nil {
		return ""
	}
	return digest
}

// isOwn tells whether an event is certain to be about evidence. What it is not certain of
// is a push: the scanner reads the manifest. An event tells too little in two cases. Under
// a tag of another form than those that list evidence, the tag has a new meaning, whatever
// was pushed: unnoticed, it would keep the verdict of what it meant before. And one
// reference, or an artifact type, does not make evidence of an image: a runtime ignores
// them. A bundle is the layer of a manifest whose own media type is that of any image.
func (c Classifier) isOwn(e Event) bool {
	switch {
	case c.IsOwnArtifact("", "", e.Tag):
		return true
	case e.Tag != "":
		return false
	case len(e.References) == 0:
		return c.IsOwnArtifact(e.MediaType, e.ArtifactType, "")
	}
	types := make([]string, 0, len(e.References))
	own := false
	for _, r := range e.References {
		t := r.MediaType
		if c.IsOwnArtifact("", r.ArtifactType, "") && manifestTypes[r.MediaType] {
			t = r.ArtifactType // an index of evidence
		}
		own = own || c.IsOwnArtifact(t, "", "")
		types = append(types, t)
	}
	return own && !slices.ContainsFunc(types, func(t string) bool { return !besideEvidence[t] && !c.IsOwnArtifact(t, "", "") })
}

// besideEvidence are the media types of configurations, and of layers of signatures, that
// make no layer of an image.
var besideEvidence = map[string]bool{
	"application/vnd.oci.image.config.v1+json":       true,
	"application/vnd.docker.container.image.v1+json": true,
	"application/vnd.oci.empty.v1+json":              true,
	"application/jose+json":                          true,
	"application/cose":                               true,
}

// otherDigest reports whether d is a well-formed digest of a longer algorithm of
// the OCI image specification.
func otherDigest(d string) bool {
	for prefix, digits := range map[string]int{"sha512:": 128, "sha384:": 96, "blake3:": 64} {
		if len(d) == len(prefix)+digits && d[:len(prefix)] == prefix && isHex(d[len(prefix):]) {
			return true
		}
	}
	return false
}

func isHex(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return false
		}
	}
	return true
}
