package identity

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
)

// Witness adds to a bundle what others say about its signature.
type Witness interface {
	// Add adds the witness's word; signerPEM is the public key or certificate. Of the
	// bundle it needs no more than attest.Bundle.Digested gives, unless TakesWhole.
	Add(ctx context.Context, b *protobundle.Bundle, signerPEM []byte) error
	// TakesWhole says that a log takes in statements and not their digests.
	TakesWhole() bool
	// Root names the authorities by whom it can be verified.
	Root() *attest.SigstoreRoot
	// Promises says what Add adds.
	Promises() (log, timestamp bool)
}

// By is with what a bundle was signed: a key or, for Certificate is not empty then, a
// certificate in DER.
type By struct {
	PublicPEM   []byte
	Certificate []byte
}

// Witnessed has w add its word about a signature that was just made of a statement about
// a subject (sha256:<hex>), and verifies the result as any reader will: what no reader
// believes never leaves the signer.
func Witnessed(ctx context.Context, w Witness, signed *attest.Bundle, by By, subject string, roots attest.TrustRoots) (Signed, error) {
	b, err := draft(signed, w.TakesWhole())
	if err != nil {
		return Signed{}, err
	}
	signerPEM := by.PublicPEM
	if len(by.Certificate) > 0 {
		b.VerificationMaterial.Content = &protobundle.VerificationMaterial_Certificate{
			Certificate: &protocommon.X509Certificate{RawBytes: by.Certificate},
		}
		signerPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: by.Certificate})
	}
	if err := w.Add(ctx, b, signerPEM); err != nil {
		return Signed{}, err
	}
	complete, err := signed.With(b.GetVerificationMaterial())
	if err != nil {
		return Signed{}, err
	}
	v, err := complete.Verify(subject, roots)
	if err != nil {
		return Signed{}, fmt.Errorf("what was just signed does not verify: %w", err)
	}
	return Signed{Bundle: complete, KeyID: v.KeyID, LogIndex: v.LogIndex, ProvenTime: v.SignTime}, nil
}

func draft(signed *attest.Bundle, whole bool) (*protobundle.Bundle, error) {
	if !whole {
		return signed.Digested()
	}
	b, err := signed.Proto()
	if errors.Is(err, attest.ErrTooLarge) {
		err = fmt.Errorf("%w: the transparency log is a Rekor v1, which takes in whole statements: "+
			"name one of version 2 in sigstore.signing_config or leave log out of the identity's witnesses", err)
	}
	return b, err
}
