package interop

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/tests/internal/distribution"
	"github.com/seaworthy-dev/seaworthy/tests/internal/images"
)

// shelf is a registry with images to attach bundles to.
type shelf struct {
	host   string
	client *registry.Client
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{host: distribution.Start(t)}
	var err error
	s.client, err = registry.New(registry.Config{Registries: []registry.Host{{Host: s.host, Insecure: true}}}, obs.Discard("test"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.Close)
	return s
}

// push pushes an image of its own.
func (s *shelf) push(t *testing.T, name string) imageref.Ref {
	t.Helper()
	digest := images.Push(t, images.Clean(t, name), s.host+"/refuse/app:"+strings.ReplaceAll(strings.ReplaceAll(name, ",", ""), " ", "-"))
	return imageref.Ref{Registry: s.host, Repository: "refuse/app", Digest: digest}
}

// attach attaches a bundle as the signer does, whatever is in it.
func (s *shelf) attach(t *testing.T, image imageref.Ref, raw []byte) {
	t.Helper()
	subject, err := s.client.Resolve(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.PutReferrer(t.Context(), image, subject, registry.Artifact{
		ArtifactType: attest.BundleMediaType, Content: raw,
		Annotations: map[string]string{attest.AnnotationContent: "dsse-envelope", attest.AnnotationPredicateType: reviewType},
	}); err != nil {
		t.Fatal(err)
	}
}

// sigstoreGo is what sigstore-go says of a bundle about an image.
func sigstoreGo(t *testing.T, v *verify.Verifier, raw []byte, digest string, who verify.PolicyOption) error {
	t.Helper()
	sum, err := hex.DecodeString(strings.TrimPrefix(digest, "sha256:"))
	if err != nil {
		t.Fatal(err)
	}
	var b bundle.Bundle
	if err := b.UnmarshalJSON(raw); err != nil {
		return err
	}
	_, err = v.Verify(&b, verify.NewPolicy(verify.WithArtifactDigest("sha256", sum), who))
	return err
}

// said is a reader's answer in a word, for the table that a test prints.
func said(err error) string {
	if err == nil {
		return "accepts"
	}
	return "refuses"
}
