package command

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
)

const (
	// waitSlice is the longest single call of a wait: shorter than what servers
	// and proxies allow.
	waitSlice = 60 * time.Second
	// waitPoll is how often an image that was never seen is asked for.
	waitPoll = 500 * time.Millisecond
	// maxMessage is the longest message in a table; what it names is listed below it.
	maxMessage = 100
)

func (s *session) verdict() *cobra.Command {
	var (
		wait    time.Duration
		refresh bool
		req     verifierv1.GetVerdictRequest
	)
	cmd := &cobra.Command{
		Use:   "verdict IMAGE",
		Short: "Tell whether an image may run, and why",
		Long: `Verdict prints the verdict of an image and its reasons. The exit code is the
verdict: 0 PASS, 1 FAIL, 2 UNKNOWN; treat UNKNOWN as a refusal. Errors end with
3 and up. With --wait an image that is on its way, or whose push has not arrived
yet, is waited for. A tag means what was last pushed under it; with --resolve the
registry is asked. With --environment the policies of other environments do not
count. With --refresh the verifier first reads the evidence from the registry again,
for example because provenance was attached a moment ago.`,
		Example: `  seaworthyctl verdict shop/ledger:1.5.0 --wait 60s
  seaworthyctl verdict sha256:… -o json
  seaworthyctl verdict shop/ledger:stable --resolve --environment staging
  seaworthyctl verdict shop/ledger:1.5.0 --refresh
  seaworthyctl verdict watch --cursor 0`,
		Args: oneImage,
		RunE: s.run(func(ctx context.Context, args []string) error { return s.runVerdict(ctx, args[0], &req, wait, refresh) }),
	}
	cmd.Flags().DurationVarP(&wait, "wait", "w", 0, "wait up to this `TIME` for the verdict, for example 60s")
	cmd.Flags().StringVar(&req.Environment, "environment", "", "`NAME` of the environment that asks")
	cmd.Flags().BoolVar(&req.Resolve, "resolve", false, "ask the registry what the tag means now")
	cmd.Flags().BoolVar(&refresh, "refresh", false, "read the evidence from the registry again and judge the image by it")
	cmd.AddCommand(s.verdictWatch(), s.verdictHistory(), s.verdictExplain())
	return cmd
}

func (s *session) runVerdict(ctx context.Context, arg string, req *verifierv1.GetVerdictRequest, wait time.Duration, refresh bool) error {
	if wait < 0 {
		return usagef("--wait %s is negative", wait)
	}
	if refresh && wait > 0 {
		return usagef("--refresh and --wait exclude each other")
	}
	f, err := s.open()
	if err != nil {
		return err
	}
	if req.Image, err = imageMessage(f, arg); err != nil {
		return err
	}
	client, err := f.Verdicts()
	if err != nil {
		return err
	}
	ctx, cancel := s.limit(ctx, wait+defaultTimeout)
	defer cancel()
	var v *verifierv1.Verdict
	if refresh {
		v, err = refreshVerdict(ctx, client, req)
	} else {
		v, err = awaitVerdict(ctx, client, req, wait)
	}
	if err != nil {
		return err
	}
	if err := s.printVerdict(v); err != nil {
		return err
	}
	switch v.GetState() {
	case verifierv1.Verdict_STATE_PASS:
		return nil
	case verifierv1.Verdict_STATE_FAIL:
		return &answerError{exitFail}
	default:
		return &answerError{exitUnknown}
	}
}

// awaitVerdict asks until the verdict is final or wait is over; then the answer
// so far is the answer.
func awaitVerdict(ctx context.Context, client verifierv1.VerdictServiceClient, req *verifierv1.GetVerdictRequest, wait time.Duration) (*verifierv1.Verdict, error) {
	end := time.Now().Add(wait)
	for {
		left := time.Until(end)
		v, err := getVerdict(ctx, client, req, min(left, waitSlice))
		if err != nil {
			return nil, err
		}
		unseen := hasReason(v, "NEVER_SEEN")
		if left = time.Until(end); !v.GetPending() && !unseen || left <= 0 {
			return v, nil
		}
		if err := pause(ctx, min(left, waitPoll)); err != nil {
			return nil, err
		}
	}
}

func refreshVerdict(ctx context.Context, client verifierv1.VerdictServiceClient, req *verifierv1.GetVerdictRequest) (*verifierv1.Verdict, error) {
	resp, err := client.RefreshVerdict(ctx, &verifierv1.RefreshVerdictRequest{
		Image: req.GetImage(), Environment: req.GetEnvironment(), Resolve: req.GetResolve(),
	})
	if err != nil {
		return nil, err
	}
	return resp.GetVerdict(), nil
}

func getVerdict(ctx context.Context, client verifierv1.VerdictServiceClient, req *verifierv1.GetVerdictRequest, wait time.Duration) (*verifierv1.Verdict, error) {
	if wait > 0 {
		// The service waits until shortly before the deadline.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, wait+time.Second)
		defer cancel()
	}
	req.Wait = wait > 0
	resp, err := client.GetVerdict(ctx, req)
	if err != nil {
		return nil, err
	}
	return resp.GetVerdict(), nil
}

func hasReason(v *verifierv1.Verdict, code string) bool {
	for _, r := range v.GetReasons() {
		if r.GetCode() == code {
			return true
		}
	}
	return false
}

func (s *session) printVerdict(v *verifierv1.Verdict) error {
	if s.json() {
		return output.JSON(s.env.Out, v)
	}
	state := output.Enum(v.GetState(), "STATE_")
	if v.GetPending() {
		state += " (pending)"
	}
	t := output.NewTable(s.env.Out)
	t.Row("IMAGE", imageName(v.GetImage()))
	t.Row("DIGEST", v.GetImage().GetDigest())
	t.Row("VERDICT", state)
	t.Row("EVALUATED", output.Timestamp(v.GetEvaluateTime()))
	t.Row("EXPIRES", output.Timestamp(v.GetExpireTime()))
	t.Row("TRACE", v.GetTraceId())
	if err := t.Flush(); err != nil {
		return err
	}
	if len(v.GetReasons()) > 0 {
		t = s.section("REASON", "POLICY", "RULE", "MESSAGE")
		for _, r := range v.GetReasons() {
			t.Row(r.GetCode(), r.GetPolicy(), r.GetRule(), output.Cut(r.GetMessage(), maxMessage))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if all := v.GetVex(); len(all) > 0 {
		t = s.section("NOT AFFECTED BY", "PACKAGE", "STATUS", "AUTHOR", "OF", "WHY")
		for _, u := range all {
			t.Row(u.GetVulnerability(), u.GetPurl(), u.GetStatus(), u.GetAuthor(), output.Timestamp(u.GetStatementTime()),
				output.Cut(strings.TrimSpace(u.GetJustification()+" "+u.GetImpactStatement()), maxMessage))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return s.printPlatforms(v.GetPlatforms())
}

func (s *session) printPlatforms(platforms []*verifierv1.PlatformVerdict) error {
	if len(platforms) == 0 {
		return nil
	}
	t := s.section("PLATFORM", "DIGEST", "VERDICT", "POLICIES", "EVIDENCE")
	for _, p := range platforms {
		t.Row(platformName(p.GetPlatform()), output.ShortDigest(p.GetDigest()), output.Enum(p.GetState(), "STATE_"),
			strconv.Itoa(len(p.GetPolicies())), fmt.Sprintf("%d attestations", len(p.GetInputs().GetAttestations())))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return brokenRules(s.env.Out, platforms)
}

// brokenRules lists the items that broke rules, which the reasons only count.
func brokenRules(w io.Writer, platforms []*verifierv1.PlatformVerdict) error {
	for _, p := range platforms {
		for _, policy := range p.GetPolicies() {
			for _, rule := range policy.GetRules() {
				if len(rule.GetItems()) == 0 {
					continue
				}
				if err := output.Printf(w, "\n%s/%s on %s:\n", policy.GetPolicy(), rule.GetRule(), output.ShortDigest(p.GetDigest())); err != nil {
					return err
				}
				for _, item := range rule.GetItems() {
					if err := output.Printf(w, "  %s\n", item); err != nil {
						return err
					}
				}
				if more := int(rule.GetItemCount()) - len(rule.GetItems()); more > 0 {
					if err := output.Printf(w, "  and %d more\n", more); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}
