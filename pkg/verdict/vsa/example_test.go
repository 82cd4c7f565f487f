package vsa_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/verdict/trustbundle"
	"github.com/seaworthy-dev/seaworthy/pkg/verdict/vsa"
)

// A gate that cannot reach the verifier believes a summary of the last day.
func Example() {
	gate := func(ctx context.Context, client *registry.Client, bundle *signerv1.GetTrustBundleResponse, image imageref.Ref) error {
		roots, err := trustbundle.Roots(bundle)
		if err != nil {
			return err
		}
		v := &vsa.Verifier{Registry: client, Roots: roots, MaxAge: 24 * time.Hour, Policies: []vsa.Policy{{Name: "baseline"}}}
		summary, err := v.Verify(ctx, image)
		if errors.Is(err, vsa.ErrFailed) {
			return fmt.Errorf("%s was refused at %s", image, summary.TimeVerified)
		}
		return err
	}
	_ = gate
	fmt.Println(vsa.ErrNone)
	// Output: no verification summary of the image can be trusted
}
