package attest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
)

func Example() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		fmt.Println(err)
		return
	}
	signer, err := signature.LoadDefaultSigner(key)
	if err != nil {
		fmt.Println(err)
		return
	}
	sum := strings.Repeat("5e", 32)
	bundle, err := attest.Sign(context.Background(), signer, key.Public(), attest.Statement{
		Subject:       []attest.Subject{{Name: "registry.example/team/app", SHA256: sum}},
		PredicateType: attest.PredicateVSA,
		Predicate:     json.RawMessage(`{"verificationResult":"PASSED"}`),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	roots := attest.TrustRoots{Keys: []attest.TrustedKey{{Key: key.Public(), ID: "release"}}}
	v, err := attest.Verify(bundle, "sha256:"+sum, roots)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(v.KeyID, string(v.Predicate))
	_, err = attest.Verify(bundle, "sha256:"+strings.Repeat("00", 32), roots)
	fmt.Println(errors.Is(err, attest.ErrWrongSubject))
	// Output:
	// release {"verificationResult":"PASSED"}
	// true
}
