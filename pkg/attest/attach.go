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
	return Put(ctx, c, ref, subject, bundle, predicateType, created)
}

// Put is Attach for a bundle that the caller made itself, or kept: it is not
// looked into.
func Put(ctx context.Context, c *registry.Client, ref imageref.Ref, subject registry.Descriptor, bundle []byte, predicateType string, created time.Time) (registry.Descriptor, error) {
	d, err := c.PutReferrer(ctx, ref, subject, registry.Artifact{
		ArtifactType: BundleMediaType,
		Content:      bundle,
		Annotations: map[string]string{
			AnnotationContent:       contentDSSE,
			AnnotationPredicateType: predicateType,
			AnnotationCreated:       created.UTC().Format(time.RFC3339),
		},
	})
	if err != nil {
		return registry.Descriptor{}, fmt.Errorf("attach attestation: %w", err)
	}
	return d, nil
}
