package core

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/seaworthy-dev/seaworthy/pkg/artifact"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
)

// Media types of manifests that are understood.
const (
	mediaOCIManifest    = "application/vnd.oci.image.manifest.v1+json"
	mediaOCIIndex       = "application/vnd.oci.image.index.v1+json"
	mediaDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// Limits on what a manifest may hold. They are far above what builders make.
const (
	maxPlatforms = 64
	maxLayers    = 500
	maxIndexSize = 1000
)

// Descriptor points to content in a registry.
type Descriptor struct {
	MediaType    string
	ArtifactType string
	Digest       string
	Size         int64
	Platform     *Platform
	Annotations  map[string]string
	// DiffID is the digest of a layer decompressed, as the image's configuration says.
	DiffID string
}

type jsonDescriptor struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	Annotations  map[string]string `json:"annotations"`
	Platform     *struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
		Variant      string `json:"variant"`
	} `json:"platform"`
}

func (j jsonDescriptor) descriptor() Descriptor {
	d := Descriptor{MediaType: j.MediaType, ArtifactType: j.ArtifactType, Digest: j.Digest, Size: j.Size, Annotations: j.Annotations}
	if j.Platform != nil {
		d.Platform = &Platform{OS: j.Platform.OS, Architecture: j.Platform.Architecture, Variant: j.Platform.Variant}
	}
	return d
}

type jsonManifest struct {
	MediaType    string           `json:"mediaType"`
	ArtifactType string           `json:"artifactType"`
	Config       *jsonDescriptor  `json:"config"`
	Layers       []jsonDescriptor `json:"layers"`
	Manifests    []jsonDescriptor `json:"manifests"`
	Subject      *jsonDescriptor  `json:"subject"`

	Annotations map[string]string `json:"annotations"`
}

// Manifest is a parsed manifest: of one image, or of an index of several.
type Manifest struct {
	MediaType string
	// Index tells which of the two it is.
	Index bool
	// Config and Layers are those of a single image, lowest layer first.
	Config Descriptor
	Layers []Descriptor
	// Annotations are those of a single image's manifest.
	Annotations map[string]string
	// Platforms are the platform manifests of an index, in its order.
	Platforms []Descriptor
	// Claims are the manifests of an index that it calls artifacts, or whose platform
	// it calls unknown. It may say so of an image, so only their own content tells
	// what they are.
	Claims []Descriptor
}

// ParseManifest reads a manifest or index. mediaType is what the registry called
// it; the content's own mediaType must not contradict. Anything but an image or
// an index of images is a NOT_AN_IMAGE fault.
func ParseManifest(mediaType string, content []byte) (*Manifest, error) {
	var j jsonManifest
	if err := strictjson.Unmarshal(content, &j); err != nil {
		return nil, unreadable("the manifest", err)
	}
	if j.MediaType != "" && mediaType != "" && j.MediaType != mediaType {
		return nil, NewFault(ReasonNotAnImage, "the manifest calls itself %q but the registry calls it %q", clip(j.MediaType), clip(mediaType))
	}
	if mediaType == "" {
		mediaType = j.MediaType
	}
	switch mediaType {
	case mediaOCIIndex, mediaDockerList:
		return parseIndex(mediaType, j)
	case mediaOCIManifest, mediaDockerManifest:
		return parseImage(mediaType, j, content)
	default:
		return nil, NewFault(ReasonNotAnImage, "media type %q is not an image", clip(mediaType))
	}
}

// unreadable says what is wrong with a document, in words that are safe to show.
func unreadable(what string, err error) *FaultError {
	var e *strictjson.Error
	if errors.As(err, &e) {
		return NewFault(ReasonNotAnImage, "%s is %s", what, e)
	}
	return NewFault(ReasonNotAnImage, "%s cannot be read", what).WithCause(err)
}

func parseIndex(mediaType string, j jsonManifest) (*Manifest, error) {
	if len(j.Layers) > 0 || j.Config != nil {
		return nil, NewFault(ReasonNotAnImage, "the index also has the members of a manifest")
	}
	if len(j.Manifests) > maxIndexSize {
		return nil, NewFault(ReasonLimitExceeded, "the index has %d manifests, more than %d", len(j.Manifests), maxIndexSize)
	}
	m := &Manifest{MediaType: mediaType, Index: true}
	for _, d := range j.Manifests {
		switch {
		case d.MediaType != mediaOCIManifest && d.MediaType != mediaDockerManifest:
		case isPlatformImage(d):
			m.Platforms = append(m.Platforms, d.descriptor())
		default:
			m.Claims = append(m.Claims, d.descriptor())
		}
	}
	if len(m.Platforms) == 0 {
		f := NewFault(ReasonNotAnImage, "the index has no platform image")
		f.Evidence, f.Subject = j.isEvidenceIndex(), j.subject()
		return nil, f
	}
	// A runtime would look for its platform in there too, where nothing was scanned.
	if slices.ContainsFunc(j.Manifests, func(d jsonDescriptor) bool { return d.MediaType == mediaOCIIndex || d.MediaType == mediaDockerList }) {
		return nil, NewFault(ReasonNotAnImage, "an index within an index is not scanned: name its images in one index, or push it under a tag of its own")
	}
	// Builders put one attestation beside each image.
	if n := max(len(m.Platforms), len(m.Claims)); n > maxPlatforms {
		return nil, NewFault(ReasonLimitExceeded, "the index has %d platforms, more than %d", n, maxPlatforms)
	}
	return m, nil
}

// isPlatformImage says whether a manifest in an index has to be an image. BuildKit's
// attestation manifests have the platform unknown/unknown and a reference type
// annotation, other artifacts have an artifact type: those are claims. What names a
// platform is an image whatever else it is called: a runtime of that platform would run
// it.
func isPlatformImage(d jsonDescriptor) bool {
	if d.Platform != nil && d.Platform.OS != "unknown" && d.Platform.Architecture != "unknown" {
		return true
	}
	// A descriptor's artifact type is the config's media type where the manifest
	// has none of its own.
	if d.ArtifactType != "" && !artifact.IsImageConfig(d.ArtifactType) || d.Annotations["vnd.docker.reference.type"] != "" {
		return false
	}
	return d.Platform == nil || d.Platform.OS != "unknown" || d.Platform.Architecture != "unknown"
}

// subject is the digest that a manifest refers to, empty if it names none.
func (j *jsonManifest) subject() string {
	if j.Subject == nil || imageref.CheckDigest(j.Subject.Digest) != nil {
		return ""
	}
	return j.Subject.Digest
}

// isEvidenceIndex recognises an index of evidence, such as the one under the
// fallback tag of the referrers API. It is asked only of an index that has no
// platform image.
func (j *jsonManifest) isEvidenceIndex() bool {
	if j.Subject != nil || artifact.IsEvidence("", j.ArtifactType, "") {
		return true
	}
	return len(j.Manifests) > 0 && !slices.ContainsFunc(j.Manifests, func(d jsonDescriptor) bool {
		return !artifact.IsEvidence(d.MediaType, d.ArtifactType, "")
	})
}

func parseImage(mediaType string, j jsonManifest, content []byte) (*Manifest, error) {
	if len(j.Manifests) > 0 {
		return nil, NewFault(ReasonNotAnImage, "the manifest also has the members of an index")
	}
	kind, err := artifact.KindOf(content)
	switch {
	case err != nil:
		return nil, unreadable("the manifest", err)
	case kind == artifact.Evidence:
		f := NewFault(ReasonNotAnImage, "the manifest is evidence about an image, not an image")
		f.Evidence, f.Artifact, f.Subject = true, true, j.subject()
		return nil, f
	case j.Config == nil:
		return nil, NewFault(ReasonNotAnImage, "the manifest has no config")
	case kind == artifact.Other:
		f := NewFault(ReasonNotAnImage, "the manifest is an artifact of type %q, not an image", clip(cmp.Or(j.ArtifactType, j.Config.MediaType)))
		f.Artifact = true
		return nil, f
	}
	if len(j.Layers) > maxLayers {
		return nil, NewFault(ReasonLimitExceeded, "the manifest has %d layers, more than %d", len(j.Layers), maxLayers)
	}
	m := &Manifest{MediaType: mediaType, Config: j.Config.descriptor(), Annotations: j.Annotations}
	for _, l := range j.Layers {
		m.Layers = append(m.Layers, l.descriptor())
	}
	return m, nil
}

type jsonConfig struct {
	OS           string    `json:"os"`
	Architecture string    `json:"architecture"`
	Variant      string    `json:"variant"`
	Created      time.Time `json:"created"`
	Config       struct {
		User         string              `json:"User"`
		Entrypoint   []string            `json:"Entrypoint"`
		Cmd          []string            `json:"Cmd"`
		Env          []string            `json:"Env"`
		ExposedPorts map[string]struct{} `json:"ExposedPorts"`
		Labels       map[string]string   `json:"Labels"`
	} `json:"config"`
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// diffIDs are the digests that a configuration gives its layers, decompressed. Runtimes
// unpack no image without one for each layer.
func diffIDs(content []byte, layers int) ([]string, error) {
	var j jsonConfig
	if err := strictjson.Unmarshal(content, &j); err != nil {
		return nil, unreadable("the image's configuration", err)
	}
	if n := len(j.RootFS.DiffIDs); n != layers {
		return nil, NewFault(ReasonNotAnImage, "the image's configuration has %d diff_ids for %d layers", n, layers)
	}
	for _, d := range j.RootFS.DiffIDs {
		if err := imageref.CheckDigest(d); err != nil {
			return nil, NewFault(ReasonNotAnImage, "the image's configuration has a malformed diff_id").WithCause(err)
		}
	}
	return j.RootFS.DiffIDs, nil
}

// Environment is what a configuration sets: values by name, the last one of a name.
type Environment map[string]string

// ParseConfig reads the facts, the platform and the environment out of an image's
// configuration. The facts have no value of the environment but its hash: values may
// be secrets.
func ParseConfig(content []byte) (Facts, Platform, Environment, error) {
	var j jsonConfig
	if err := strictjson.Unmarshal(content, &j); err != nil {
		return Facts{}, Platform{}, nil, unreadable("the image's configuration", err)
	}
	f := Facts{
		User:       j.Config.User,
		Entrypoint: j.Config.Entrypoint,
		Cmd:        j.Config.Cmd,
		Labels:     j.Config.Labels,
		Created:    j.Created.UTC(),
	}
	for p := range j.Config.ExposedPorts {
		f.ExposedPorts = append(f.ExposedPorts, p)
	}
	slices.Sort(f.ExposedPorts)
	env := Environment{}
	for _, e := range j.Config.Env {
		name, value, _ := strings.Cut(e, "=")
		env[name] = value
	}
	for name, value := range env {
		f.EnvNames = append(f.EnvNames, name)
		if f.EnvSHA256 == nil {
			f.EnvSHA256 = make(map[string]string, len(env))
		}
		sum := sha256.Sum256([]byte(value))
		f.EnvSHA256[name] = hex.EncodeToString(sum[:])
	}
	slices.Sort(f.EnvNames)
	return f, Platform{OS: clip(j.OS), Architecture: clip(j.Architecture), Variant: clip(j.Variant)}, env, nil
}

// clip bounds text from outside that goes into a message or a column, and takes
// out what neither can carry.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
	if len(s) > 120 {
		s = s[:120]
	}
	return strings.ToValidUTF8(s, "")
}
