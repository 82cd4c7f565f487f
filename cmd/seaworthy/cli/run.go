package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/fleetcontext"
	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/fleet"
)

func newRun(out, logs io.Writer) *cobra.Command {
	var flags fleetFlags
	c := &cobra.Command{
		Use:   "run",
		Short: "Start the fleet and serve until interrupted",
		Long: `Starts the five services with an embedded NATS JetStream server, SQLite, a private
certificate authority and an OCI registry; a push to it starts the pipeline. The registry
acknowledges an image only after the push is stored as an event, so what was pushed is
judged after a second start, however the first one ended; while events cannot be stored a
push gets 503 and has to be repeated. Everything is kept in the data directory; a second
start goes on where the first ended, on the same ports.`,
		Example: `  seaworthy run --config deploy/config/seaworthy.yaml
  seaworthy run --set telemetry.otlp_endpoint=127.0.0.1:4317 --set telemetry.otlp_insecure=true`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := flags.load(c)
			if err != nil {
				return err
			}
			return fleet.Run(c.Context(), cfg, logs, func(f *fleet.Fleet) {
				if err := registerContext(f); err != nil {
					_, _ = fmt.Fprintln(output.Plain(logs), "seaworthy: seaworthyctl will not find this fleet by itself, use --context:", err)
				}
				printAddresses(out, f)
			})
		},
	}
	flags.register(c, ".seaworthy")
	return c
}

// registerContext lets seaworthyctl find the fleet in the folder that it was started in.
func registerContext(f *fleet.Fleet) error {
	dir, err := os.UserConfigDir()
	if err != nil {
		return err
	}
	return fleetcontext.Register(dir, f.ContextFile())
}

func printAddresses(out io.Writer, f *fleet.Fleet) {
	a := f.Context().Addresses
	p := func(name, value string) { _, _ = fmt.Fprintf(out, "  %-10s %s\n", name, value) }
	_, _ = fmt.Fprintln(out, "Seaworthy is up; Ctrl-C ends it.")
	if f.Registry() != "" {
		p("registry", f.Registry()+"  (plain HTTP; a push here starts the pipeline)")
	}
	p("webhooks", a.Gateway+"/webhooks/v1/distribution/{source}")
	p("verifier", a.Verifier+"  (gRPC, mutual TLS)")
	p("scanner", a.Scanner)
	p("signer", a.Signer)
	p("notifier", a.Notifier)
	p("events", f.Context().NATS)
	p("health", f.GatewayURL()+"/readyz")
	p("context", f.ContextFile()+"  (seaworthyctl finds it here, or by SEAWORTHY_CONTEXT)")
}

// noArgs refuses arguments as a usage error.
func noArgs(c *cobra.Command, args []string) error {
	if err := cobra.NoArgs(c, args); err != nil {
		return &usageError{err}
	}
	return nil
}
