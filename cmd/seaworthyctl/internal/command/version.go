package command

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	"github.com/seaworthy-dev/seaworthy/pkg/buildinfo"
)

func (s *session) version() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  seaworthyctl version -o json",
		Args:    cobra.NoArgs,
		RunE: s.run(func(context.Context, []string) error {
			if s.json() {
				return output.JSON(s.env.Out, struct {
					Version string `json:"version"`
					Commit  string `json:"commit"`
				}{buildinfo.Version(), buildinfo.Commit()})
			}
			_, err := fmt.Fprintln(s.env.Out, buildinfo.String("seaworthyctl"))
			return err
		}),
	}
}
