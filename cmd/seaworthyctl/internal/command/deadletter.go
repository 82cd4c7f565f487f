package command

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
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

// letters is a page of dead letters from a sequence on.
func letters(ctx context.Context, bus *eventbus.Bus, from uint64) ([]events.DeadLetter, error) {
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	return events.ListDeadLetters(ctx, bus, from, letterPage)
}

// eachLetter calls f for every dead letter from a sequence on.
func eachLetter(ctx context.Context, bus *eventbus.Bus, from uint64, f func(events.DeadLetter) (goOn bool, err error)) error {
	for {
		page, err := letters(ctx, bus, from)
		if err != nil {
			return err
		}
		for _, l := range page {
			from = l.Sequence + 1
			if goOn, err := f(l); err != nil || !goOn {
				return err
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
	)
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the dead letters, oldest first",
		Example: "  seaworthyctl deadletter list --service scanner",
		Args:    cobra.NoArgs,
		RunE: s.run(func(ctx context.Context, _ []string) error {
			if limit < 1 {
				return usagef("--limit %d is less than 1", limit)
			}
			ctx, cancel := s.limit(ctx, defaultTimeout)
			defer cancel()
			bus, err := s.bus(ctx)
			if err != nil {
				return err
			}
			var list []events.DeadLetter
			err = eachLetter(ctx, bus, from, func(l events.DeadLetter) (bool, error) {
				if filter.takes(l) {
					list = append(list, l)
				}
				return len(list) < limit, nil
			})
			if err != nil {
				return err
			}
			return s.printLetters(list)
		}),
	}
	cmd.Flags().Uint64Var(&from, "from", 0, "begin at this sequence")
	cmd.Flags().IntVar(&limit, "limit", 100, "list at most this many")
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
			bus, err := s.bus(ctx)
			if err != nil {
				return err
			}
			l, err := events.GetDeadLetter(ctx, bus, seq)
			if err != nil {
				return err
			}
			return s.printLetter(l)
		}),
	}
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
		return 0, usagef("%q is no sequence of a dead letter; `seaworthyctl deadletter list` shows them", s)
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
				if seqs, err = chooseLetters(ctx, bus, filter); err != nil {
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

// chooseLetters reads first and replays later: a replay that fails again makes
// new dead letters, which must not be replayed in the same run.
func chooseLetters(ctx context.Context, bus *eventbus.Bus, filter letterFilter) ([]uint64, error) {
	var seqs []uint64
	err := eachLetter(ctx, bus, 0, func(l events.DeadLetter) (bool, error) {
		if filter.takes(l) {
			seqs = append(seqs, l.Sequence)
		}
		return true, nil
	})
	return seqs, err
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
		id, err := replayOne(ctx, bus, seq)
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

func replayOne(ctx context.Context, bus *eventbus.Bus, seq uint64) (messageID string, err error) {
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	return events.ReplayDeadLetter(ctx, bus, seq)
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
