// Package cli is the command line of seaworthy: run, demo, registry, scan, advisories.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/demo"
	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/fleet"
	"github.com/seaworthy-dev/seaworthy/pkg/buildinfo"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
)

// Exit codes.
const (
	exitOK         = 0
	exitFailed     = 1
	exitUsage      = 2
	exitUnexpected = 3 // demo: a verdict is not as expected
	exitIncomplete = 3 // scan: what could not be judged
)

// EnvPrefix is how the environment variables of the all-in-one start, for example
// SEAWORTHY_FLEET_HOST for the key host.
const EnvPrefix = "SEAWORTHY_FLEET"

// Main runs a command line and returns the exit code.
func Main(ctx context.Context, args []string, out, logs io.Writer) int {
	root := newRoot(out, logs) //nolint:contextcheck // cobra hands the context to the commands
	root.SetArgs(args)
	root.SetOut(output.Plain(out))
	root.SetErr(output.Plain(logs))
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	_, _ = fmt.Fprintln(output.Plain(logs), "seaworthy:", obs.RedactError(err))
	var usage *usageError
	var scan *scanError
	switch {
	case errors.As(err, &usage), errors.As(err, &scan):
		return exitUsage
	case errors.Is(err, errIncomplete):
		return exitIncomplete
	case errors.Is(err, demo.ErrUnexpectedVerdict):
		return exitUnexpected
	default:
		return exitFailed
	}
}

// usageError is a command line or configuration that cannot be used.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// newRoot makes the commands. Only scan writes documents that must arrive as they are, and
// only log lines, which quote what is in them, go to logs as they are.
func newRoot(out, logs io.Writer) *cobra.Command {
	text := output.Plain(out)
	root := &cobra.Command{
		Use:   "seaworthy",
		Short: "The image supply chain in one process: registry, scanner, signer, verifier, notifier, gateway",
		Long: `Seaworthy takes a container image from push to a signed, explainable verdict.
This program runs the whole fleet in one process, under one data directory, or scans
one image by itself.

Exit codes: 0 success, 1 failure, 2 usage or configuration, 3 a demo verdict is not as expected.
Those of scan are in its help.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       buildinfo.String("seaworthy"),
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(newRun(text, logs), newDemo(text, logs), newRegistry(text, logs), newScan(out, logs), newAdvisories(text, logs))
	return root
}

// fleetFlags are the flags that configure the fleet.
type fleetFlags struct {
	file    string
	dataDir string
	set     []string
}

func (f *fleetFlags) register(c *cobra.Command, dataDir string) {
	c.Flags().StringVar(&f.file, "config", "", "configuration file (YAML), for example deploy/config/seaworthy.yaml")
	c.Flags().StringVar(&f.dataDir, "data-dir", dataDir, "directory of everything that outlives a restart")
	c.Flags().StringArrayVar(&f.set, "set", nil, "set one key, for example --set telemetry.log_level=debug; may be repeated")
}

func (f *fleetFlags) load(c *cobra.Command) (fleet.Config, error) {
	cfg := fleet.Default()
	err := config.Load(&cfg, config.Options{File: f.file, EnvPrefix: EnvPrefix, Environ: os.Environ(), Set: f.set})
	if err != nil {
		return cfg, &usageError{err}
	}
	if c.Flags().Changed("data-dir") || cfg.DataDir == "" {
		cfg.DataDir = f.dataDir
	}
	return cfg, nil
}
