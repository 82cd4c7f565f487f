package command

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
	"github.com/seaworthy-dev/seaworthy/services/verifier/app/policykit"
)

// someFiles demands at least one file.
func someFiles(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("%s takes one FILE or more", cmd.CommandPath())
	}
	return nil
}

func (s *session) policyInit() *cobra.Command {
	return &cobra.Command{
		Use:   "init [PACK]",
		Short: "Print a policy to start from",
		Long: `Init prints a built-in policy pack, to be changed and applied: ` + strings.Join(policykit.Packs(), ", ") + `
(default baseline). Give it another name before you apply it beside the pack. It
needs no fleet.`,
		Example: "  seaworthyctl policy init strict > team-a.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: s.run(func(_ context.Context, args []string) error {
			pack := "baseline"
			if len(args) == 1 {
				pack = args[0]
			}
			data, err := policykit.Pack(pack)
			if err != nil {
				return &usageError{err}
			}
			_, err = s.document.Write(data)
			return err
		}),
	}
}

// checkedFile is one file of lint as JSON.
type checkedFile struct {
	File     string   `json:"file"`
	Policies []string `json:"policies"`
	Faults   string   `json:"faults,omitempty"`
}

func (s *session) policyLint() *cobra.Command {
	return &cobra.Command{
		Use:   "lint FILE…",
		Short: "Check policies: syntax, types, names and costs",
		Long: `Lint checks policies as the verifier does when they are applied, and names every
fault with line and column. It needs no fleet. The exit code is 1 if there is a
fault.`,
		Example: "  seaworthyctl policy lint policies/*.yaml",
		Args:    someFiles,
		RunE: s.run(func(_ context.Context, args []string) error {
			kit, err := policykit.New()
			if err != nil {
				return err
			}
			var all []checkedFile
			faulty := false
			for _, file := range args {
				data, err := regularfile.ReadFile(file)
				if err != nil {
					return &usageError{err}
				}
				c := checkedFile{File: file, Policies: []string{}}
				docs, err := kit.Check(file, data)
				if err != nil {
					c.Faults, faulty = err.Error(), true
				}
				for _, d := range docs {
					c.Policies = append(c.Policies, d.Name)
				}
				all = append(all, c)
			}
			if err := s.printChecked(all); err != nil {
				return err
			}
			if faulty {
				return &answerError{exitFail}
			}
			return nil
		}),
	}
}

func (s *session) printChecked(all []checkedFile) error {
	if s.json() {
		return output.JSON(s.env.Out, all)
	}
	for _, c := range all {
		text := c.File + ": " + strings.Join(c.Policies, ", ") + " in order"
		if c.Faults != "" {
			text = c.Faults
		}
		if err := s.printLines(strings.Split(text, "\n")); err != nil {
			return err
		}
	}
	return nil
}

// printLines prints lines, of which each is cleaned by itself.
func (s *session) printLines(lines []string) error {
	for _, l := range lines {
		if err := output.Printf(s.env.Out, "%s\n", l); err != nil {
			return err
		}
	}
	return nil
}

// testedFile is one file of test as JSON.
type testedFile struct {
	File  string             `json:"file"`
	Cases []policykit.Result `json:"cases"`
}

func (s *session) policyTest() *cobra.Command {
	return &cobra.Command{
		Use:   "test FILE…",
		Short: "Run unit tests of policies",
		Long: `Test runs the cases of test files (kind PolicyTest) by the verifier's own engine:
facts that are written down, or recorded evidence of real images, against the
policies that the file names. It needs no fleet. The exit code is 1 if a case does
not hold. docs/policies.md of the verifier shows how to write them.`,
		Example: "  seaworthyctl policy test policies/*-test.yaml",
		Args:    someFiles,
		RunE: s.run(func(ctx context.Context, args []string) error {
			kit, err := policykit.New()
			if err != nil {
				return err
			}
			ctx, cancel := s.limit(ctx, 0)
			defer cancel()
			var all []testedFile
			failed, cases := 0, 0
			for _, file := range args {
				results, err := kit.Test(ctx, file)
				if err != nil {
					return &usageError{err}
				}
				all = append(all, testedFile{file, results})
				for _, r := range results {
					cases++
					if len(r.Problems) > 0 {
						failed++
					}
				}
			}
			if err := s.printTested(all); err != nil {
				return err
			}
			if failed > 0 {
				s.notef("%d of %d cases do not hold", failed, cases)
				return &answerError{exitFail}
			}
			return nil
		}),
	}
}

func (s *session) printTested(all []testedFile) error {
	if s.json() {
		return output.JSON(s.env.Out, all)
	}
	for _, f := range all {
		for _, c := range f.Cases {
			word := "ok"
			if len(c.Problems) > 0 {
				word = "FAILED"
			}
			lines := []string{fmt.Sprintf("%-6s  %s: %s", word, f.File, c.Name)}
			for _, p := range c.Problems {
				for _, l := range strings.Split(p, "\n") {
					lines = append(lines, "        "+l)
				}
			}
			if err := s.printLines(lines); err != nil {
				return err
			}
		}
	}
	return nil
}
