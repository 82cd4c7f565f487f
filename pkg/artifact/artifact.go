// Package artifact tells images from what is attached to them. It needs no registry
// and no signatures, so that the gateway and the scanner do not carry the
// dependencies of whoever signs and verifies.
package artifact

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
)

// evidenceTypes begin the artifact, config and layer types of what is attached
// to images: signatures, attestations, SBOMs and reports, ours and other tools'.
var evidenceTypes = []string{
	"application/vnd.dev.sigstore.",
	"application/vnd.dev.cosign.",
	"application/vnd.cncf.notary.",
	"application/vnd.in-toto+",
	"application/vnd.in-toto.",
	"application/vnd.dsse.",
	"application/vnd.cyclonedx",
	"application/spdx",
	"application/vnd.spdx",
	"text/spdx",
	"application/sarif",
	"application/vnd.syft",
	"application/vnd.openvex",
	"application/openvex",
}

// IsEvidence recognises evidence about an image, which is nothing to scan:
// pushing it must not start another round. It goes by the media type of the
// pushed thing, its artifact type (or its config's media type) and its tag; each
// may be empty if it is not known. A manifest with a subject is one too; whoever
// has the manifest must look at that.
func IsEvidence(mediaType, artifactType, tag string) bool {
	return isEvidenceType(mediaType) || isEvidenceType(artifactType) || isReferrersTag(tag)
}

func isEvidenceType(t string) bool {
	t = strings.ToLower(strings.TrimSpace(t))
	for _, prefix := range evidenceTypes {
		if strings.HasPrefix(t, prefix) {
			return true
		}
	}
	return false
}

// isReferrersTag recognises `sha256-<hex>`, the referrers tag, and cosign's older
// `sha256-<hex>.sig`, `.att` and `.sbom`.
func isReferrersTag(tag string) bool {
	rest, ok := strings.CutPrefix(tag, "sha256-")
	if !ok {
		return false
	}
	sum, _, _ := strings.Cut(rest, ".")
	return isSHA256(sum)
}

func isSHA256(s string) bool {
	if len(s) != 64 || strings.ToLower(s) != s {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil
}

// Kind is what a manifest is by its own content.
type Kind int

// Kinds of manifests.
const (
	// Image is what a runtime runs: its configuration is that of an image.
	Image Kind = iota
	// Evidence is a signature, an attestation or an SBOM about an image.
	Evidence
	// Other is an artifact that no runtime runs, for example a Helm chart.
	Other
)

// Layer and config types that matter to KindOf.
const (
	ociConfig    = "application/vnd.oci.image.config.v1+json"
	dockerConfig = "application/vnd.docker.container.image.v1+json"
	emptyConfig  = "application/vnd.oci.empty.v1+json"
	// emptyDigest is of the document {}: as a configuration it has no layers to run.
	emptyDigest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
)

// genericTypes are configuration types that Docker takes for that of an image, because
// registries once wrote them.
var genericTypes = []string{"", "application/octet-stream", "application/json", "text/html", "text/plain"}

// IsImageConfig says whether a configuration of this media type makes a manifest an image.
func IsImageConfig(mediaType string) bool {
	return mediaType == ociConfig || mediaType == dockerConfig
}

// KindOf reads a manifest, not an index. A manifest with the configuration of an image
// is an image whatever else it says: runtimes look at nothing else, so an image cannot
// hide behind a subject, an artifact type or what an index says of it. Only cosign's
// older signatures and BuildKit's attestations have such a configuration, over layers
// that no runtime unpacks.
func KindOf(manifest []byte) (Kind, error) {
	type descriptor struct {
		MediaType string `json:"mediaType"`
	}
	var m struct {
		ArtifactType string          `json:"artifactType"`
		Config       *descriptor     `json:"config"`
		Layers       []descriptor    `json:"layers"`
		Manifests    json.RawMessage `json:"manifests"`
		Subject      *descriptor     `json:"subject"`
	}
	if err := strictjson.Unmarshal(manifest, &m); err != nil {
		return Image, fmt.Errorf("manifest: %w", err)
	}
	switch {
	case m.Manifests != nil:
		return Image, nil // an index is never left out
	case m.Config != nil && IsImageConfig(m.Config.MediaType):
		if len(m.Layers) == 0 || slices.ContainsFunc(m.Layers, func(l descriptor) bool { return !isEvidenceType(l.MediaType) }) {
			return Image, nil
		}
		return Evidence, nil
	case m.Subject != nil, isEvidenceType(m.ArtifactType), m.Config != nil && isEvidenceType(m.Config.MediaType):
		return Evidence, nil
	case m.Config == nil:
		return Image, nil
	default:
		return Other, nil
	}
}

// MayRun says whether any runtime could run a manifest, not an index. It is stricter than
// KindOf: some runtimes unpack layers of any media type under the configuration of an
// image, others look at the layers and not at the type of the configuration. It is for
// what stands in an index without a platform: builders put no attestations there, but
// runtimes take it for want of their own platform.
func MayRun(manifest []byte) (bool, error) {
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
	}
	var m struct {
		Config *descriptor  `json:"config"`
		Layers []descriptor `json:"layers"`
	}
	if err := strictjson.Unmarshal(manifest, &m); err != nil {
		return true, fmt.Errorf("manifest: %w", err)
	}
	switch {
	case m.Config == nil:
		return true, nil
	case m.Config.MediaType == emptyConfig && m.Config.Digest == emptyDigest:
		return false, nil
	default:
		return IsImageConfig(m.Config.MediaType) || slices.Contains(genericTypes, strings.ToLower(m.Config.MediaType)) ||
			slices.ContainsFunc(m.Layers, func(l descriptor) bool { return isImageLayer(l.MediaType) }), nil
	}
}

func isImageLayer(mediaType string) bool {
	t := strings.ToLower(mediaType)
	return strings.HasPrefix(t, "application/vnd.oci.image.") || strings.HasPrefix(t, "application/vnd.docker.")
}
