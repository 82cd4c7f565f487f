package command

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
)

// letterPage is how many dead letters are read in one go.
const letterPage = 100

func (s *session) deadLetter() *cobra.Command {
	return group("deadletter", "See and replay the messages that a step gave up on",
		s.deadLetterList(), s.deadLetterShow(), s.deadLetterReplay())
}

// letterFilter chooses dead letters.
type letterFilter struct{ service, reason string }

func (f *letterFilter) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.service, "service", "", "only those of this service, for example scanner")
	cmd.Flags().StringVar(&f.reason, "reason", "", "only those with this reason, for example IMAGE_NOT_FOUND")
}

func (f *letterFilter) takes(l events.DeadLetter) bool {
	return (f.service == "" || f.service == l.Event.GetService()) && (f.reason == "" || f.reason == l.Event.GetReason())
}

// letter is a dead letter as JSON.
type letter struct {
	Sequence uint64          `json:"sequence"`
	Event    json.RawMessage `json:"event"`
}

func newLetter(l events.DeadLetter) (letter, error) {
	raw, err := protojson.Marshal(l.Event)
	return letter{Sequence: l.Sequence, Event: raw}, err
}

func (s *session) bus(ctx context.Context) (*eventbus.Bus, error) {
	f, err := s.open()
	if err != nil {
		return nil, err
	}
	return f.Bus(ctx)
}

func (s *session) letterClient() (verifierv1.DeadLetterServiceClient, error) {
	f, err := s.open()
	if err != nil {
		return nil, err
	}
	return f.DeadLetters()
}

func stored(l *verifierv1.DeadLetter) events.DeadLetter {
	return events.DeadLetter{Sequence: uint64(max(l.GetSequence(), 0)), Event: l.GetEvent(), Traceparent: l.GetTraceparent()}
}

// storedLetters calls f for the letters that the verifier stored, until it returns false.
func (s *session) storedLetters(ctx context.Context, from uint64, filter letterFilter, f func(events.DeadLetter) (goOn bool)) error {
	client, err := s.letterClient()
	if err != nil {
		return err
	}
	req := &verifierv1.ListDeadLettersRequest{
		PageSize: letterPage, FromSequence: int64(min(from, math.MaxInt64)), Service: filter.service, Reason: filter.reason,
	}
	for {
		page, cancel := context.WithTimeout(ctx, defaultTimeout)
		resp, err := client.ListDeadLetters(page, req)
		cancel()
		if err != nil {
			return err
		}
		for _, l := range resp.GetDeadLetters() {
			if !f(stored(l)) {
				return nil
			}
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return nil
		}
	}
}

// waitingLetters does it for letters in the stream, which the verifier has not stored yet.
func (s *session) waitingLetters(ctx context.Context, from uint64, filter letterFilter, f func(events.DeadLetter) (goOn bool)) error {
	bus, err := s.bus(ctx)
	if err != nil {
		return err
	}
	for {
		page, err := events.WaitingDeadLetters(ctx, bus, from, letterPage)
		if err != nil {
			return err
		}
		for _, l := range page {
			from = l.Sequence + 1
			if filter.takes(l) && !f(l) {
				return nil
			}
		}
		if len(page) < letterPage {
			return nil
		}
	}
}

func (s *session) deadLetterList() *cobra.Command {
	var (
		from   uint64
		limit  int
		filter letterFilter
		wait   bool
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the dead letters, oldest first",
		Long: `List shows the dead letters that the verifier has stored. With --waiting it shows
those that the verifier has not stored yet, with their sequences in the stream. They
can be replayed once they are stored.`,
		Example: "  seaworthyctl deadletter list --service scanner",
		Args:    cobra.NoArgs,
		RunE: s.run(func(ctx context.Context, _ []string) error {
			if limit < 1 {
				return usagef("--limit %d is less than 1", limit)
			}
			ctx, cancel := s.limit(ctx, defaultTimeout)
			defer cancel()
			letters := s.storedLetters
			if wait {
				letters = s.waitingLetters
			}
			var list []events.DeadLetter
			err := letters(ctx, from, filter, func(l events.DeadLetter) bool {
				list = append(list, l)
				return len(list) < limit
			})
			if err != nil {
				return err
			}
			return s.printLetters(list)
		}),
	}
	cmd.Flags().Uint64Var(&from, "from", 0, "begin at this sequence")
	cmd.Flags().IntVar(&limit, "limit", 100, "list at most this many")
	cmd.Flags().BoolVar(&wait, "waiting", false, "those that wait in NATS for the verifier to store them")
	filter.flags(cmd)
	return cmd
}

func (s *session) printLetters(list []events.DeadLetter) error {
	if s.json() {
		out := struct {
			DeadLetters []letter `json:"deadLetters"`
		}{[]letter{}}
		for _, l := range list {
			one, err := newLetter(l)
			if err != nil {
				return err
			}
			out.DeadLetters = append(out.DeadLetters, one)
		}
		return output.JSON(s.env.Out, out)
	}
	if len(list) == 0 {
		s.notef("no dead letters")
		return nil
	}
	t := output.NewTable(s.env.Out, "SEQ", "TIME", "CONSUMER", "REASON", "ATTEMPTS", "IMAGE", "MESSAGE")
	for _, l := range list {
		e := l.Event
		img := ""
		if e.GetImage() != nil {
			img = imageName(e.GetImage())
		}
		t.Row(strconv.FormatUint(l.Sequence, 10), output.Timestamp(e.GetMeta().GetEventTime()), e.GetConsumer(), e.GetReason(),
			strconv.FormatUint(uint64(e.GetAttempts()), 10), img, output.Cut(e.GetMessage(), 80))
	}
	return t.Flush()
}

func (s *session) deadLetterShow() *cobra.Command {
	return &cobra.Command{
		Use:     "show SEQ",
		Short:   "Show one dead letter whole",
		Example: "  seaworthyctl deadletter show 7",
		Args:    cobra.ExactArgs(1),
		RunE: s.run(func(ctx context.Context, args []string) error {
			seq, err := sequence(args[0])
			if err != nil {
				return err
			}
			ctx, cancel := s.limit(ctx, defaultTimeout)
			defer cancel()
			l, err := s.getLetter(ctx, seq)
			if err != nil {
				return err
			}
			return s.printLetter(l)
		}),
	}
}

func (s *session) getLetter(ctx context.Context, seq uint64) (events.DeadLetter, error) {
	client, err := s.letterClient()
	if err != nil {
		return events.DeadLetter{}, err
	}
	resp, err := client.GetDeadLetter(ctx, &verifierv1.GetDeadLetterRequest{Sequence: int64(min(seq, math.MaxInt64))})
	if err != nil {
		return events.DeadLetter{}, err
	}
	return stored(resp.GetDeadLetter()), nil
}

func (s *session) printLetter(l events.DeadLetter) error {
	if s.json() {
		one, err := newLetter(l)
		if err != nil {
			return err
		}
		return output.JSON(s.env.Out, one)
	}
	e := l.Event
	t := output.NewTable(s.env.Out)
	t.Row("SEQ", strconv.FormatUint(l.Sequence, 10))
	t.Row("TIME", output.Timestamp(e.GetMeta().GetEventTime()))
	t.Row("SERVICE", e.GetService())
	t.Row("CONSUMER", e.GetConsumer())
	t.Row("REASON", e.GetReason())
	t.Row("MESSAGE", e.GetMessage())
	t.Row("ATTEMPTS", strconv.FormatUint(uint64(e.GetAttempts()), 10))
	if e.GetImage() != nil {
		t.Row("IMAGE", imageName(e.GetImage()))
		t.Row("DIGEST", e.GetImage().GetDigest())
	}
	t.Row("SUBJECT", e.GetSubject())
	t.Row("ORIGINAL", fmt.Sprintf("%s, sequence %d, %d bytes", e.GetStream(), e.GetStreamSequence(), len(e.GetPayload())))
	t.Row("TRACE", e.GetMeta().GetTraceId())
	return t.Flush()
}

func sequence(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 {
		return 0, usagef("invalid sequence %q of a dead letter; `seaworthyctl deadletter list` shows them", s)
	}
	return n, nil
}

func (s *session) deadLetterReplay() *cobra.Command {
	var (
		all    bool
		filter letterFilter
	)
	cmd := &cobra.Command{
		Use:   "replay SEQ…",
		Short: "Send the messages of dead letters on their way again",
		Long: `Replay publishes the message in a dead letter again. What was done already is not
done twice; the dead letter stays. --all replays every one that the filters let
through.`,
		Example: `  seaworthyctl deadletter replay 7 9
  seaworthyctl deadletter replay --all --reason REGISTRY_UNAVAILABLE`,
		RunE: s.run(func(ctx context.Context, args []string) error {
			if all == (len(args) > 0) {
				return usagef("name the sequences to replay, or --all, and not both")
			}
			if !all && filter != (letterFilter{}) {
				return usagef("--service and --reason go with --all")
			}
			seqs := make([]uint64, 0, len(args))
			for _, a := range args {
				seq, err := sequence(a)
				if err != nil {
					return err
				}
				seqs = append(seqs, seq)
			}
			// Thousands of dead letters take minutes: without --timeout each step has
			// a limit, and the run has none.
			ctx, cancel := s.limit(ctx, 0)
			defer cancel()
			connecting, cancel := context.WithTimeout(ctx, defaultTimeout)
			defer cancel()
			bus, err := s.bus(connecting)
			if err != nil {
				return err
			}
			if all {
				// All are chosen before the first is replayed: a replay that fails again makes
				// a new dead letter, which must not be replayed in the same run.
				err := s.storedLetters(ctx, 0, filter, func(l events.DeadLetter) bool {
					seqs = append(seqs, l.Sequence)
					return true
				})
				if err != nil {
					return err
				}
			}
			return s.replay(ctx, bus, seqs)
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "replay every dead letter")
	filter.flags(cmd)
	return cmd
}

// replayed is a replay as JSON.
type replayed struct {
	Sequence  uint64 `json:"sequence"`
	MessageID string `json:"messageId"`
}

func (s *session) replay(ctx context.Context, bus *eventbus.Bus, seqs []uint64) error {
	done := []replayed{}
	var failed error
	for _, seq := range seqs {
		id, err := s.replayOne(ctx, bus, seq)
		if err != nil {
			failed = err // what was replayed before is still printed
			break
		}
		done = append(done, replayed{seq, id})
	}
	if err := s.printReplayed(done); err != nil {
		return err
	}
	return failed
}

func (s *session) replayOne(ctx context.Context, bus *eventbus.Bus, seq uint64) (messageID string, err error) {
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	l, err := s.getLetter(ctx, seq)
	if err != nil {
		return "", err
	}
	return events.ReplayDeadLetter(ctx, bus, l)
}

func (s *session) printReplayed(done []replayed) error {
	if s.json() {
		return output.JSON(s.env.Out, struct {
			Replayed []replayed `json:"replayed"`
		}{done})
	}
	if len(done) == 0 {
		s.notef("nothing was replayed")
		return nil
	}
	t := output.NewTable(s.env.Out, "SEQ", "NEW MESSAGE ID")
	for _, r := range done {
		t.Row(strconv.FormatUint(r.Sequence, 10), r.MessageID)
	}
	return t.Flush()
}
