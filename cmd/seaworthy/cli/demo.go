package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/demo"
	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/fleet"
)

// demoMarker is in every data directory that a demo made, and may be deleted.
const demoMarker = "made-by-seaworthy-demo"

func newDemo(out, logs io.Writer) *cobra.Command {
	var flags fleetFlags
	var binaries string
	var stay bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Start the fleet, push two images, and print their way to a verdict",
		Long: `Starts the same fleet as run in a data directory of its own, which it empties first,
pushes two images into the embedded registry and prints every step of their way as it
happens. One image must end in FAIL, one in PASS.

Exit codes: 0 both verdicts are as expected, 3 one is not, 1 anything else went wrong.`,
		Example: "  seaworthy demo --config deploy/config/seaworthy.yaml --stay",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := flags.load(c)
			if err != nil {
				return err
			}
			cfg.DataDir = flags.dataDir
			if err := emptyDemoDir(cfg.DataDir); err != nil {
				return err
			}
			if binaries == "" {
				if binaries, err = demoBinaries(); err != nil {
					return err
				}
			}
			return demo.Run(c.Context(), demo.Options{Fleet: cfg, Binaries: binaries, Stay: stay, Out: out, Logs: logs})
		},
	}
	flags.register(c, filepath.Join(".seaworthy", "demo"))
	c.AddCommand(newDemoPush(out))
	c.Flags().StringVar(&binaries, "binaries", "", "directory of the programs inside the images (default: demo, beside this program)")
	c.Flags().BoolVar(&stay, "stay", false, "keep the fleet running after the verdicts")
	return c
}

// emptyDemoDir makes dir an empty data directory. It deletes only what an earlier
// demo made.
func emptyDemoDir(dir string) error {
	marker := filepath.Join(dir, demoMarker)
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		if _, err := os.Stat(marker); errors.Is(err, fs.ErrNotExist) {
			return &usageError{fmt.Errorf("%s is not empty and no demo made it: choose another with --data-dir", dir)}
		}
	}
	if err := fleet.CheckUnused(dir); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("empty the demo's data directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the demo's data directory: %w", err)
	}
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		return fmt.Errorf("make the demo's data directory: %w", err)
	}
	return nil
}

func newDemoPush(out io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:     "push REGISTRY",
		Short:   "Push the demo's two images to the registry of a fleet that is already running",
		Example: "  seaworthy demo push 127.0.0.1:5000",
		Args: func(c *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(1)(c, args); err != nil {
				return &usageError{err}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			binaries, err := demoBinaries()
			if err != nil {
				return err
			}
			return demo.Push(c.Context(), args[0], binaries, out)
		},
	}
}

// demoBinaries is where `make demo-images` puts the programs: demo, beside this one.
func demoBinaries() (string, error) {
	executable, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	return filepath.Join(filepath.Dir(executable), "demo"), nil
}
