// Package artifact tells images from what is attached to them. It needs nothing
// but the standard library, so that the gateway and the scanner do not carry the
// dependencies of whoever signs and verifies.
package artifact

import (
	"encoding/hex"
	"strings"
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
