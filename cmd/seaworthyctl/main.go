// Command seaworthyctl is the command line client of a Seaworthy fleet.
package main

import (
	"context"
	"os"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthyctl/internal/command"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
)

func main() {
	ctx, stop := lifecycle.WithSignals(context.Background())
	code := command.Run(ctx, os.Args[1:], command.DefaultEnv())
	stop()
	os.Exit(code)
}
