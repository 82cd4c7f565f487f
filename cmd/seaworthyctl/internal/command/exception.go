package command

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
)

func (s *session) exception() *cobra.Command {
	return group("exception", "Let images pass in spite of a vulnerability or a rule, for a time",
		s.exceptionCreate(), s.exceptionList(), s.exceptionDelete())
}

func (s *session) exceptionCreate() *cobra.Command {
	var (
		e        verifierv1.Exception
		lastsFor time.Duration
		until    string
	)
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create an exception",
		Long: `Create lets the images of a repository pass in spite of a vulnerability or a rule.
Every exception needs an owner, a reason and an end; the images that it is for are
judged again at once and when it ends, without anybody asking.`,
		Example: `  seaworthyctl exception create text-cve --target CVE-2022-32149 \
      --repositories 'registry.example/shop/**' --purl pkg:golang/golang.org/x/text \
      --owner team-shop --reason 'not reachable' --for 720h \
      --justification vulnerable_code_not_in_execute_path
  seaworthyctl exception create root-once --target rule:strict/not-root \
      --image-digest sha256:… --owner team-shop --reason 'migration' --until 2026-12-31T00:00:00Z`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("%s takes one NAME", cmd.CommandPath())
			}
			return nil
		},
		RunE: s.run(func(ctx context.Context, args []string) error {
			end, err := s.exceptionEnd(lastsFor, until)
			if err != nil {
				return err
			}
			e.Name, e.ExpireTime = args[0], timestamppb.New(end)
			return s.runExceptionCreate(ctx, &e)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&e.Target, "target", "", "vulnerability's `ID`, rule:NAME or rule:POLICY/NAME")
	flags.StringVar(&e.Repositories, "repositories", "", "`GLOB` over registry/repository")
	flags.StringVar(&e.ImageDigest, "image-digest", "", "`DIGEST` of one image, instead of --repositories")
	flags.StringVar(&e.Purl, "purl", "", "only in this package, with a version or without")
	flags.StringVar(&e.Owner, "owner", "", "who answers for it")
	flags.StringVar(&e.Reason, "reason", "", "why it is right")
	flags.StringVar(&e.Ticket, "ticket", "", "`URL` of a ticket")
	flags.StringVar(&e.Justification, "justification", "", "why the image is not affected, in OpenVEX's `WORDS`; without it the risk is accepted")
	flags.DurationVar(&lastsFor, "for", 0, "how long it lasts, for example 720h")
	flags.StringVar(&until, "until", "", "when it ends, as RFC 3339 `TIME`")
	return cmd
}

// exceptionEnd is when an exception ends: exactly one of the two flags says so.
func (s *session) exceptionEnd(lastsFor time.Duration, until string) (time.Time, error) {
	switch {
	case (lastsFor != 0) == (until != ""):
		return time.Time{}, usagef("every exception needs an end: --for TIME or --until TIME")
	case lastsFor < 0:
		return time.Time{}, usagef("--for %s is negative", lastsFor)
	case lastsFor > 0:
		return s.env.Now().Add(lastsFor), nil
	}
	end, err := time.Parse(time.RFC3339, until)
	if err != nil {
		return time.Time{}, usagef("invalid --until %q: want a time such as 2026-12-31T00:00:00Z", until)
	}
	return end, nil
}

func (s *session) runExceptionCreate(ctx context.Context, e *verifierv1.Exception) error {
	f, err := s.open()
	if err != nil {
		return err
	}
	client, err := f.Exceptions()
	if err != nil {
		return err
	}
	ctx, cancel := s.limit(ctx, defaultTimeout)
	defer cancel()
	resp, err := client.CreateException(ctx, &verifierv1.CreateExceptionRequest{Exception: e, RequestId: rand.Text()})
	if err != nil {
		return err
	}
	if s.json() {
		return output.JSON(s.env.Out, resp.GetException())
	}
	return s.printExceptions([]*verifierv1.Exception{resp.GetException()})
}

func (s *session) exceptionList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List exceptions, also those that have ended",
		Example: `  seaworthyctl exception list -o json`,
		Args:    cobra.NoArgs,
		RunE:    s.run(func(ctx context.Context, _ []string) error { return s.runExceptionList(ctx) }),
	}
}

func (s *session) runExceptionList(ctx context.Context) error {
	f, err := s.open()
	if err != nil {
		return err
	}
	client, err := f.Exceptions()
	if err != nil {
		return err
	}
	ctx, cancel := s.limit(ctx, defaultTimeout)
	defer cancel()
	all := &verifierv1.ListExceptionsResponse{}
	req := &verifierv1.ListExceptionsRequest{PageSize: pageSize}
	for {
		resp, err := client.ListExceptions(ctx, req)
		if err != nil {
			return err
		}
		all.Exceptions = append(all.Exceptions, resp.GetExceptions()...)
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if s.json() {
		return output.JSON(s.env.Out, all)
	}
	if len(all.GetExceptions()) == 0 {
		s.notef("no exceptions")
		return nil
	}
	return s.printExceptions(all.GetExceptions())
}

func (s *session) printExceptions(all []*verifierv1.Exception) error {
	t := output.NewTable(s.env.Out, "NAME", "TARGET", "FOR", "PACKAGE", "OWNER", "EXPIRES", "FROM", "REASON")
	for _, e := range all {
		where, from, end := e.GetRepositories(), "API", output.Timestamp(e.GetExpireTime())
		if where == "" {
			where = output.ShortDigest(e.GetImageDigest())
		}
		if e.GetFromFile() {
			from = "file"
		}
		if !s.env.Now().Before(e.GetExpireTime().AsTime()) {
			end += " (ended)"
		}
		t.Row(e.GetName(), e.GetTarget(), where, e.GetPurl(), e.GetOwner(), end, from,
			output.Cut(strings.TrimSpace(e.GetReason()+" "+e.GetTicket()), maxMessage))
	}
	return t.Flush()
}

func (s *session) exceptionDelete() *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME",
		Short:   "End an exception now",
		Example: `  seaworthyctl exception delete text-cve`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("%s takes one NAME", cmd.CommandPath())
			}
			return nil
		},
		RunE: s.run(func(ctx context.Context, args []string) error {
			f, err := s.open()
			if err != nil {
				return err
			}
			client, err := f.Exceptions()
			if err != nil {
				return err
			}
			ctx, cancel := s.limit(ctx, defaultTimeout)
			defer cancel()
			if _, err := client.DeleteException(ctx, &verifierv1.DeleteExceptionRequest{Name: args[0]}); err != nil {
				return err
			}
			s.notef("deleted; the images it was for are judged again")
			return nil
		}),
	}
}
