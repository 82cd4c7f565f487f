// Package evidence reads the attestations of an image from its registry and
// verifies each, as anybody could who has the fleet's public keys.
package evidence

import (
	"context"
	"fmt"
	"time"

	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
	"github.com/seaworthy-dev/seaworthy/pkg/verdict/trustbundle"
)

// maxPlatforms bounds the platform manifests of an index that are looked at.
const maxPlatforms = 64

// Attestation is one attestation as it is in the registry.
type Attestation struct {
	// Subject is the digest it is attached to.
	Subject string `json:"subject"`
	// Platform of the subject if it is a manifest of an index, `os/architecture`.
	Platform string `json:"platform,omitempty"`
	// PredicateType is the URI of its kind. It is what the bundle says; believe it
	// only if Verified is set.
	PredicateType string `json:"predicateType,omitempty"`
	// ManifestDigest is the referrer's.
	ManifestDigest string `json:"manifestDigest"`
	// CreateTime is what the referrer says; nothing proves it.
	CreateTime time.Time `json:"createTime,omitzero"`
	// Verified says that a key of the trust bundle signed it and that it is about
	// the subject.
	Verified bool `json:"verified"`
	// KeyID is the key that signed it, or the subject of the certificate, if verified.
	KeyID string `json:"keyId,omitempty"`
	// SignTime is when it was signed, as a timestamp authority or a log proves, and
	// LogIndex its place in the log.
	SignTime time.Time `json:"signTime,omitzero"`
	LogIndex *int64    `json:"logIndex,omitempty"`
	// Reason and Problem say why it is not verified.
	Reason  string `json:"reason,omitempty"`
	Problem string `json:"problem,omitempty"`
}

// Broken says that it is not just somebody else's: it claims one of the keys and
// is not signed with it, is about something else, or cannot be read.
func (a Attestation) Broken() bool {
	return !a.Verified && a.Reason != "UNTRUSTED_KEY" && a.Reason != "UNTRUSTED_IDENTITY"
}

// Roots are the keys and identities of a trust bundle.
func Roots(bundle *signerv1.GetTrustBundleResponse, now time.Time) (attest.TrustRoots, error) {
	roots, err := trustbundle.Roots(bundle)
	if err != nil {
		return attest.TrustRoots{}, err
	}
	roots.At = now
	for i := range roots.Identities {
		roots.Identities[i].ID = roots.Identities[i].Subject // what people know it by
	}
	return roots, nil
}

// Read resolves ref and returns its digest and its attestations, and for an
// index also those of its platform manifests.
func Read(ctx context.Context, c *registry.Client, ref imageref.Ref, roots attest.TrustRoots) (digest string, list []Attestation, err error) {
	d, raw, err := c.Manifest(ctx, ref)
	if err != nil {
		return "", nil, err
	}
	subjects, err := subjects(d, raw)
	if err != nil {
		return "", nil, err
	}
	list = []Attestation{}
	for _, s := range subjects {
		referred, err := attest.Fetch(ctx, c, ref.WithDigest(s.Digest), attest.Limits{})
		if err != nil {
			return "", nil, err
		}
		for _, r := range referred {
			list = append(list, judge(s, r, roots))
		}
	}
	return d.Digest, list, nil
}

// subjects are the digests that attestations of an image can be attached to.
func subjects(d registry.Descriptor, raw []byte) ([]registry.Descriptor, error) {
	out := []registry.Descriptor{{Digest: d.Digest}}
	if d.MediaType != registry.MediaTypeOCIIndex && d.MediaType != registry.MediaTypeDockerList {
		return out, nil
	}
	var index struct {
		Manifests []registry.Descriptor `json:"manifests"`
	}
	if err := strictjson.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	for _, m := range index.Manifests {
		if m.Platform != nil && m.Platform.OS == "unknown" {
			continue // BuildKit's own attestations
		}
		if err := imageref.CheckDigest(m.Digest); err != nil {
			return nil, fmt.Errorf("read the index: %w", err)
		}
		if len(out) > maxPlatforms {
			return nil, fmt.Errorf("the index has more than %d platforms", maxPlatforms)
		}
		out = append(out, m)
	}
	return out, nil
}

func judge(subject registry.Descriptor, r attest.Referred, roots attest.TrustRoots) Attestation {
	a := Attestation{
		Subject:        subject.Digest,
		ManifestDigest: r.Digest,
		PredicateType:  r.Annotations[attest.AnnotationPredicateType],
	}
	if p := subject.Platform; p != nil {
		a.Platform = p.OS + "/" + p.Architecture
	}
	if t, err := time.Parse(time.RFC3339, r.Annotations[attest.AnnotationCreated]); err == nil {
		a.CreateTime = t.UTC()
	}
	v, err := r.Verify(subject.Digest, roots)
	if err != nil {
		a.Reason, a.Problem = attest.Reason(err), err.Error()
		if a.Reason == "" {
			a.Reason = "UNREADABLE"
		}
		return a
	}
	a.Verified, a.KeyID, a.PredicateType, a.CreateTime = true, v.KeyID, v.PredicateType, v.CreateTime
	a.SignTime, a.LogIndex = v.SignTime, v.LogIndex
	return a
}
