package attest

import (
	"context"
	"fmt"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
)

// Attach attaches a bundle to subject in ref's repository and returns the
// descriptor of the new referrer. predicateType must be the statement's. created
// goes into the manifest with a resolution of one second; the same bundle and
// the same created give the same manifest and add nothing.
func Attach(ctx context.Context, c *registry.Client, ref imageref.Ref, subject registry.Descriptor, bundle []byte, predicateType string, created time.Time) (registry.Descriptor, error) {
	st, err := Untrusted(bundle)
	if err != nil {
		return registry.Descriptor{}, err
	}
	if st.PredicateType != predicateType {
		return registry.Descriptor{}, malformed(fmt.Sprintf("predicate type is %q, not %q", st.PredicateType, predicateType), nil)
	}
	if !st.isAbout(subject.Digest) {
		return registry.Descriptor{}, fmt.Errorf("%w: wanted %.100s", ErrWrongSubject, subject.Digest)
	}
	d, err := c.PutReferrer(ctx, ref, subject, registry.Artifact{
		ArtifactType: BundleMediaType, Content: bundle, Annotations: annotations(predicateType, created),
	})
	if err != nil {
		return registry.Descriptor{}, fmt.Errorf("attach attestation: %w", err)
	}
	return d, nil
}

// Manifest is the manifest of a referrer of subject whose layer is a bundle with a
// digest and size, for registry.Client.PutReferrerManifest: that of Attach.
func Manifest(subject registry.Descriptor, digest string, size int64, predicateType string, created time.Time) ([]byte, error) {
	layer := registry.Descriptor{Digest: digest, Size: size}
	return registry.ReferrerManifest(subject, BundleMediaType, layer, annotations(predicateType, created))
}

func annotations(predicateType string, created time.Time) map[string]string {
	return map[string]string{
		AnnotationContent:       contentDSSE,
		AnnotationPredicateType: predicateType,
		AnnotationCreated:       created.UTC().Format(time.RFC3339),
	}
}
