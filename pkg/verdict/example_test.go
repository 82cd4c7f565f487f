package verdict_test

import (
	"context"
	"fmt"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	"github.com/seaworthy-dev/seaworthy/pkg/verdict"
)

// A gate lets an image run only if its verdict is Pass.
func Example() {
	gate := func(ctx context.Context, source *tlsx.Source, image imageref.Ref) error {
		c, err := verdict.New(verdict.Config{Address: "verifier:9103", TLS: source, Telemetry: obs.Discard("gate")})
		if err != nil {
			return err
		}
		defer c.Close()
		go func() { _ = c.Run(ctx) }() // keeps the cache fresh until ctx ends
		v, err := c.Get(ctx, image)
		if err != nil {
			return err
		}
		if v.State != verdict.Pass {
			return fmt.Errorf("%s is %s: %v", image, v.State, v.Reasons)
		}
		return nil
	}
	_ = gate
	fmt.Println(verdict.Verdict{}.State)
	// Output: UNKNOWN
}
