package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/fleetcontext"
	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	"github.com/seaworthy-dev/seaworthy/cmd/seaworthyctl/internal/fleet"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
)

// Formats of the output.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatPEM   = "pem"
	// formatTrustedRoot is Sigstore's trusted_root.json.
	formatTrustedRoot = "trusted-root"
)

// outputAnnotation names, in a command's annotations, a format it knows besides
// table and json.
const outputAnnotation = "output"

// Env is what a run takes from its surroundings.
type Env struct {
	Out, Err io.Writer
	// Places says where to look for the context file that --context may name.
	Places func(flag string) fleetcontext.Places
	Now    func() time.Time
}

// DefaultEnv is that of the process.
func DefaultEnv() Env {
	return Env{Out: os.Stdout, Err: os.Stderr, Places: fleetcontext.DefaultPlaces, Now: time.Now}
}

// Run runs the command that the arguments name and returns its exit code. ctx
// ends it, for example at an interrupt.
func Run(ctx context.Context, args []string, env Env) int {
	// Everything that a command writes is made harmless for a terminal, except documents
	// that must arrive as they are, and those too if a terminal is what they arrive at.
	s := &session{env: env, document: output.Document(env.Out), logs: env.Err}
	s.env.Out, s.env.Err = output.Plain(env.Out), output.Plain(env.Err)
	root := s.root() //nolint:contextcheck // cobra hands the context to the commands
	root.SetArgs(args)
	root.SetOut(s.env.Out)
	root.SetErr(s.env.Err)
	err := root.ExecuteContext(ctx)
	return s.end(err)
}

// session is one run.
type session struct {
	env Env
	// document takes documents as they are.
	document io.Writer
	// logs takes log lines, which quote what is in them.
	logs    io.Writer
	file    string
	format  string
	timeout time.Duration
	fleet   *fleet.Fleet
}

func (s *session) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "seaworthyctl",
		Short: "Ask a Seaworthy fleet about container images",
		Long: `seaworthyctl asks a Seaworthy fleet about container images: what is in them,
what was signed about them, and whether they may run.

It finds the fleet by a context file: --context, $` + fleetcontext.EnvFile + `,
seaworthy/context.yaml in your configuration directory, then
./.seaworthy/context.yaml, if you started that fleet yourself with seaworthy run.
Which one it was is said on stderr. An IMAGE without a registry is of the fleet's own registry, if the
context names one.

` + exitCodes,
		Example: `  seaworthyctl verdict shop/ledger:1.5.0 --wait 60s
  seaworthyctl findings shop/ledger:1.5.0 --min-severity high
  seaworthyctl context show`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&s.file, "context", "", "context `FILE` of the fleet")
	flags.StringVarP(&s.format, "output", "o", formatTable, "output `FORMAT`: table or json")
	flags.DurationVar(&s.timeout, "timeout", 0, "give up after this `TIME` (default 30s; none for watch and import, 10m for scan --wait and policy apply)")
	root.AddCommand(
		s.scan(), s.verdict(), s.policy(), s.exception(), s.vex(), s.findings(), s.affected(), s.sbom(), s.attestations(), s.advisories(), s.trustBundle(), s.keys(),
		s.deadLetter(), s.deliveries(), s.topology(), s.certs(), s.context(), s.version(),
	)
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{formatTable, formatJSON}, cobra.ShellCompDirectiveNoFileComp))
	return root
}

// action is what a command does. It may use the session, and the fleet through
// s.open.
type action func(ctx context.Context, args []string) error

// run makes an action what cobra runs: it checks the common flags before and
// marks the action's errors, so that all others are mistakes in the usage.
func (s *session) run(a action) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		formats := []string{formatTable, formatJSON}
		if more := cmd.Annotations[outputAnnotation]; more != "" {
			formats = append(formats, strings.Split(more, ",")...)
		}
		if !slices.Contains(formats, s.format) {
			return fmt.Errorf("unknown output format %q, want %s", s.format, strings.Join(formats, " or "))
		}
		if s.timeout < 0 {
			return fmt.Errorf("--timeout %s is negative", s.timeout)
		}
		err := a(cmd.Context(), args)
		if s.fleet != nil {
			s.fleet.Close(cmd.Context())
		}
		if err != nil {
			return &actionError{command: cmd.CommandPath(), err: err}
		}
		return nil
	}
}

// open finds the fleet.
func (s *session) open() (*fleet.Fleet, error) {
	if s.fleet != nil {
		return s.fleet, nil
	}
	found, err := fleetcontext.Find(s.env.Places(s.file))
	if err != nil {
		return nil, err
	}
	if s.file == "" {
		// It was found, not named in the command: a wrong one would answer for another fleet.
		s.notef("context: %s (%s)", found.File, found.By)
	}
	s.fleet, err = fleet.Open(found.File)
	return s.fleet, err
}

// limit bounds ctx by --timeout, or by fallback if it is not set; 0 is no bound.
func (s *session) limit(ctx context.Context, fallback time.Duration) (context.Context, context.CancelFunc) {
	d := s.timeout
	if d == 0 {
		d = fallback
	}
	if d == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

// defaultTimeout is that of most commands.
const defaultTimeout = 30 * time.Second

func (s *session) json() bool { return s.format == formatJSON }

// notef tells the user something that is not the result.
func (s *session) notef(format string, args ...any) {
	s.note(output.Sprintf(format, args...))
}

// note is notef for a text that may have lines of its own.
func (s *session) note(text string) {
	_, _ = fmt.Fprintln(s.env.Err, obs.Redact(text)) // nothing to do about a closed terminal
}

// group is a command that only has commands below it.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	g.AddCommand(commands...)
	return g
}

// section begins a table that follows another one.
func (s *session) section(headings ...string) *output.Table {
	_, _ = fmt.Fprintln(s.env.Out) // the table's own writing reports a broken pipe
	return output.NewTable(s.env.Out, headings...)
}
