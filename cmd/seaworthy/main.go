// Seaworthy runs the whole fleet in one process.
package main

import (
	"context"
	"os"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/cli"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
)

func main() {
	ctx, stop := lifecycle.WithSignals(context.Background())
	code := cli.Main(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
