package identity

import (
	"fmt"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
)

// Verified writes a bundle about a subject (sha256:<hex>) down and verifies it as any
// reader will: what no reader believes never leaves the signer.
func Verified(b *protobundle.Bundle, subject string, roots attest.TrustRoots) (Signed, error) {
	raw, err := attest.Marshal(b)
	if err != nil {
		return Signed{}, err
	}
	v, err := attest.Verify(raw, subject, roots)
	if err != nil {
		return Signed{}, fmt.Errorf("what was just signed does not verify: %w", err)
	}
	return Signed{Bundle: attest.BundleOf(raw), KeyID: v.KeyID, LogIndex: v.LogIndex, ProvenTime: v.SignTime}, nil
}
