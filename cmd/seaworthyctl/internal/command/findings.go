package command

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
)

const pageSize = 1000

func (s *session) findings() *cobra.Command {
	var minSeverity string
	cmd := &cobra.Command{
		Use:   "findings IMAGE",
		Short: "List the vulnerabilities that the newest scan found",
		Example: `  seaworthyctl findings shop/ledger:1.4.0 --min-severity high
  seaworthyctl findings shop/ledger:1.4.0 -o json`,
		Args: oneImage,
		RunE: s.run(func(ctx context.Context, args []string) error { return s.runFindings(ctx, args[0], minSeverity) }),
	}
	cmd.Flags().StringVar(&minSeverity, "min-severity", "", "leave out what is less severe: "+strings.Join(severities(), ", "))
	_ = cmd.RegisterFlagCompletionFunc("min-severity", cobra.FixedCompletions(severities(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// severities are the names of the severities, lowest first.
func severities() []string {
	var names []string
	for _, n := range slices.Sorted(maps.Keys(typev1.Severity_name)) {
		if n != 0 {
			names = append(names, strings.ToLower(output.Enum(typev1.Severity(n), "SEVERITY_")))
		}
	}
	return names
}

func severity(name string) (typev1.Severity, error) {
	if name == "" {
		return typev1.Severity_SEVERITY_UNSPECIFIED, nil
	}
	n, ok := typev1.Severity_value["SEVERITY_"+strings.ToUpper(name)]
	if !ok || n == 0 {
		return 0, usagef("--min-severity %q is none of %s", name, strings.Join(severities(), ", "))
	}
	return typev1.Severity(n), nil
}

func (s *session) runFindings(ctx context.Context, arg, minSeverity string) error {
	lowest, err := severity(minSeverity)
	if err != nil {
		return err
	}
	client, img, err := s.askScanner(arg)
	if err != nil {
		return err
	}
	ctx, cancel := s.limit(ctx, defaultTimeout)
	defer cancel()
	all := &scannerv1.ListFindingsResponse{}
	for token := ""; ; {
		resp, err := client.ListFindings(ctx, &scannerv1.ListFindingsRequest{Image: img, PageSize: pageSize, PageToken: token, MinSeverity: lowest})
		if err != nil {
			return err
		}
		all.Findings = append(all.Findings, resp.GetFindings()...)
		all.ImageDigest = resp.GetImageDigest()
		if token = resp.GetNextPageToken(); token == "" {
			break
		}
		// A page is of one digest; stay with it when the tag moves meanwhile.
		img.Digest = all.ImageDigest
	}
	return s.printFindings(all)
}

func (s *session) printFindings(all *scannerv1.ListFindingsResponse) error {
	if s.json() {
		return output.JSON(s.env.Out, all)
	}
	if len(all.GetFindings()) == 0 {
		s.notef("no findings in %s", all.GetImageDigest())
		return nil
	}
	t := output.NewTable(s.env.Out, "SEVERITY", "ID", "PACKAGE", "VERSION", "FIXED IN", "EXPLOITED", "LOCATION", "SUMMARY")
	counts := map[typev1.Severity]int{}
	for _, f := range all.GetFindings() {
		counts[f.GetSeverity()]++
		exploited := ""
		if f.GetKev() {
			exploited = "yes"
		}
		t.Row(output.Enum(f.GetSeverity(), "SEVERITY_"), f.GetId(), f.GetPackageName(), f.GetPackageVersion(),
			output.Cut(strings.Join(f.GetFixedVersions(), ", "), 40), exploited, output.Cut(f.GetLocation(), 60), output.Cut(f.GetSummary(), 60))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	var parts []string
	for _, sev := range slices.Backward(slices.Sorted(maps.Keys(counts))) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[sev], strings.ToLower(output.Enum(sev, "SEVERITY_"))))
	}
	s.notef("%d findings in %s: %s", len(all.GetFindings()), all.GetImageDigest(), strings.Join(parts, ", "))
	return nil
}
