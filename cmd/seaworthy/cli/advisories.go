package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	scanner "github.com/seaworthy-dev/seaworthy/services/scanner/app"
)

func newAdvisories(out, logs io.Writer) *cobra.Command {
	c := &cobra.Command{Use: "advisories", Short: "Prepare advisories for scan", Args: noArgs}
	var file string
	build := &cobra.Command{
		Use:   "build PATH...",
		Short: "Write the snapshot of OSV records to a file",
		Long: `Build reads OSV records (*.json files, *.zip archives such as osv.dev's all.zip,
directories of these, CISA's KEV catalogue and the scores of EPSS) and writes them as one
snapshot file, which scan opens without reading it. The same records give the same file.`,
		Example: `  seaworthy advisories build --output-file osv.snapshot ./osv ./known_exploited_vulnerabilities.json
  seaworthy scan --advisories osv.snapshot registry.example/shop/ledger:1.4.0`,
		Args: func(c *cobra.Command, args []string) error {
			if err := cobra.MinimumNArgs(1)(c, args); err != nil {
				return &usageError{err}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			info, rejected, err := scanner.BuildAdvisories(args, file)
			if err != nil {
				return err
			}
			for _, r := range rejected {
				_, _ = fmt.Fprintln(output.Plain(logs), "advisory refused:", r)
			}
			_, err = fmt.Fprintf(out, "%s %d advisories, %d refused\n", info.GetDigest(), info.GetAdvisoryCount(), info.GetRejectedCount())
			return err
		},
	}
	build.Flags().StringVar(&file, "output-file", "advisories.snapshot", "file to write")
	c.AddCommand(build)
	return c
}
