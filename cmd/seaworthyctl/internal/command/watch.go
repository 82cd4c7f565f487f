package command

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
)

func (s *session) verdictWatch() *cobra.Command {
	var cursor int64
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Print every change of a verdict as it happens",
		Long: `Watch prints every change of a verdict, in order and without gaps, until it is
interrupted. It goes on after a restart of the service. Each line has a cursor;
--cursor resumes after it. With -o json each line is one JSON object.`,
		Example: `  seaworthyctl verdict watch
  seaworthyctl verdict watch --cursor 0 -o json`,
		Args: cobra.NoArgs,
		RunE: s.run(func(ctx context.Context, _ []string) error { return s.watchVerdicts(ctx, cursor) }),
	}
	cmd.Flags().Int64Var(&cursor, "cursor", -1, "start after this change; 0 is the oldest stored, -1 the next one to come")
	return cmd
}

func (s *session) watchVerdicts(ctx context.Context, cursor int64) error {
	if cursor < -1 {
		return usagef("--cursor %d is less than -1", cursor)
	}
	f, err := s.open()
	if err != nil {
		return err
	}
	client, err := f.Verdicts()
	if err != nil {
		return err
	}
	ctx, cancel := s.limit(ctx, 0)
	defer cancel()
	connected := false
	for {
		err := s.watchOnce(ctx, client, &cursor, &connected)
		switch {
		case ctx.Err() != nil:
			return nil // the user's way to end it
		case errors.Is(err, io.EOF), connected && apierr.From(err).Code() == codes.Unavailable:
			s.notef("the verifier does not answer, watching on when it does")
		default:
			return err
		}
		if err := pause(ctx, time.Second); err != nil {
			return nil // as above
		}
	}
}

// watchOnce prints changes until the stream ends, and keeps the cursor.
func (s *session) watchOnce(ctx context.Context, client verifierv1.VerdictServiceClient, cursor *int64, connected *bool) error {
	watch, err := client.WatchVerdicts(ctx, &verifierv1.WatchVerdictsRequest{Cursor: *cursor})
	if err != nil {
		return err
	}
	for {
		change, err := watch.Recv()
		if err != nil {
			return err
		}
		*connected, *cursor = true, change.GetCursor()
		if change.GetVerdict() == nil {
			continue // a heartbeat
		}
		if err := s.printChange(change); err != nil {
			return err
		}
	}
}

func (s *session) printChange(c *verifierv1.WatchVerdictsResponse) error {
	if s.json() {
		return output.JSONLine(s.env.Out, c)
	}
	v := c.GetVerdict()
	change := output.Enum(v.GetState(), "STATE_")
	if c.GetPreviousState() != verifierv1.Verdict_STATE_UNSPECIFIED {
		change = output.Enum(c.GetPreviousState(), "STATE_") + " → " + change
	}
	why := ""
	if len(v.GetReasons()) > 0 {
		why = v.GetReasons()[0].GetCode() + ": " + v.GetReasons()[0].GetMessage()
	}
	return output.Printf(s.env.Out, "%-6d  %s  %-14s  %s@%s  %s\n", c.GetCursor(), output.Timestamp(c.GetSendTime()), change,
		imageName(v.GetImage()), output.ShortDigest(v.GetImage().GetDigest()), output.Cut(why, maxMessage))
}
