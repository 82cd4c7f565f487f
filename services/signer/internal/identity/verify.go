package identity

import (
	"errors"
	"fmt"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
)

// Verified writes a bundle down and verifies it as any reader will: what no reader
// believes never leaves the signer.
func Verified(b *protobundle.Bundle, st attest.Statement, roots attest.TrustRoots) (Signed, error) {
	if len(st.Subject) == 0 {
		return Signed{}, errors.New("the statement has no subject")
	}
	raw, err := attest.Marshal(b)
	if err != nil {
		return Signed{}, err
	}
	v, err := attest.Verify(raw, "sha256:"+st.Subject[0].SHA256, roots)
	if err != nil {
		return Signed{}, fmt.Errorf("what was just signed does not verify: %w", err)
	}
	return Signed{Bundle: raw, KeyID: v.KeyID, LogIndex: v.LogIndex, ProvenTime: v.SignTime}, nil
}
