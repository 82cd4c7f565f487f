package command

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

func (s *session) verdictHistory() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "history IMAGE",
		Short: "List every change of an image's verdict and its cause, latest first",
		Example: `  seaworthyctl verdict history shop/ledger:1.5.0
  seaworthyctl verdict history sha256:… --limit 1 -o json`,
		Args: oneImage,
		RunE: s.run(func(ctx context.Context, args []string) error { return s.runVerdictHistory(ctx, args[0], limit) }),
	}
	cmd.Flags().IntVar(&limit, "limit", 100, "list at most this many")
	return cmd
}

func (s *session) runVerdictHistory(ctx context.Context, arg string, limit int) error {
	if limit < 1 {
		return usagef("--limit %d is less than 1", limit)
	}
	f, err := s.open()
	if err != nil {
		return err
	}
	img, err := imageMessage(f, arg)
	if err != nil {
		return err
	}
	client, err := f.Verdicts()
	if err != nil {
		return err
	}
	ctx, cancel := s.limit(ctx, defaultTimeout)
	defer cancel()
	all, err := verdictChanges(ctx, client, img, limit)
	if err != nil {
		return err
	}
	if s.json() {
		return output.JSON(s.env.Out, all)
	}
	if len(all.GetChanges()) == 0 {
		s.notef("no verdicts of %s", imageName(img))
		return nil
	}
	t := output.NewTable(s.env.Out, "TIME", "SEQUENCE", "WAS", "IS", "CAUSE", "DETAIL", "VERDICT DIGEST")
	for _, c := range all.GetChanges() {
		v := c.GetVerdict()
		was := ""
		if c.GetPreviousState() != verifierv1.Verdict_STATE_UNSPECIFIED {
			was = output.Enum(c.GetPreviousState(), "STATE_")
		}
		t.Row(output.Timestamp(v.GetEvaluateTime()), strconv.FormatInt(v.GetSequence(), 10), was, output.Enum(v.GetState(), "STATE_"),
			output.Enum(c.GetCause(), "CAUSE_"), output.Cut(c.GetDetail(), maxMessage), output.ShortDigest(v.GetDigest()))
	}
	return t.Flush()
}

// verdictChanges reads at most limit changes, page by page.
func verdictChanges(ctx context.Context, client verifierv1.VerdictServiceClient, img *typev1.ImageRef, limit int) (*verifierv1.GetVerdictHistoryResponse, error) {
	all := &verifierv1.GetVerdictHistoryResponse{}
	req := &verifierv1.GetVerdictHistoryRequest{Image: img}
	for len(all.GetChanges()) < limit {
		req.PageSize = int32(min(pageSize, limit-len(all.GetChanges())))
		resp, err := client.GetVerdictHistory(ctx, req)
		if err != nil {
			return nil, err
		}
		all.Changes = append(all.Changes, resp.GetChanges()...)
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	return all, nil
}

func (s *session) verdictExplain() *cobra.Command {
	var digest string
	cmd := &cobra.Command{
		Use:   "explain IMAGE | --verdict DIGEST",
		Short: "Prove a verdict: make it again from what it was made from",
		Long: `Explain lets the verifier make a recorded verdict again, from the evidence and the
policies that it kept with it, and compares the bytes. Without --verdict it is the
newest verdict of the image. The exit code is 0 if both are equal byte for byte,
1 if they differ, 2 if an input is gone.`,
		Example: `  seaworthyctl verdict explain shop/ledger:1.5.0
  seaworthyctl verdict explain --verdict sha256:… -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if digest != "" && len(args) == 0 {
				return imageref.CheckDigest(digest)
			}
			if digest != "" {
				return usagef("an IMAGE or --verdict, not both")
			}
			return oneImage(cmd, args)
		},
		RunE: s.run(func(ctx context.Context, args []string) error {
			if digest != "" {
				return s.runVerdictExplain(ctx, "", digest)
			}
			return s.runVerdictExplain(ctx, args[0], "")
		}),
	}
	cmd.Flags().StringVar(&digest, "verdict", "", "`DIGEST` of the verdict, as history shows it in full with -o json")
	return cmd
}

func (s *session) runVerdictExplain(ctx context.Context, arg, digest string) error {
	f, err := s.open()
	if err != nil {
		return err
	}
	client, err := f.Verdicts()
	if err != nil {
		return err
	}
	ctx, cancel := s.limit(ctx, defaultTimeout)
	defer cancel()
	if digest == "" {
		img, err := imageMessage(f, arg)
		if err != nil {
			return err
		}
		newest, err := verdictChanges(ctx, client, img, 1)
		if err != nil {
			return err
		}
		if len(newest.GetChanges()) == 0 {
			return apierr.Newf(codes.NotFound, "NEVER_SEEN", "there is no verdict of %s", imageName(img))
		}
		digest = newest.GetChanges()[0].GetVerdict().GetDigest()
	}
	proof, err := client.ExplainVerdict(ctx, &verifierv1.ExplainVerdictRequest{VerdictDigest: digest})
	if err != nil {
		return err
	}
	if err := s.printProof(proof); err != nil {
		return err
	}
	switch {
	case len(proof.GetMissingInputs()) > 0:
		return &answerError{exitUnknown}
	case !proof.GetEqual(), len(proof.GetWithdrawnInputs()) > 0:
		return &answerError{exitFail}
	default:
		return nil
	}
}

func (s *session) printProof(proof *verifierv1.ExplainVerdictResponse) error {
	if s.json() {
		return output.JSON(s.env.Out, proof)
	}
	v := proof.GetRecorded()
	proven := "equal byte for byte"
	switch {
	case len(proof.GetMissingInputs()) > 0:
		proven = "cannot be made again: inputs are missing"
	case !proof.GetEqual():
		proven = "DIFFERENT from the recorded verdict"
	case len(proof.GetWithdrawnInputs()) > 0:
		proven = "equal byte for byte, but it rests on evidence that is NOT TRUSTED any more"
	}
	t := output.NewTable(s.env.Out)
	t.Row("IMAGE", imageName(v.GetImage()))
	t.Row("DIGEST", v.GetImage().GetDigest())
	t.Row("VERDICT", output.Enum(v.GetState(), "STATE_"))
	t.Row("EVALUATED", output.Timestamp(v.GetEvaluateTime()))
	t.Row("RECORDED AS", v.GetDigest())
	if r := proof.GetReplayed(); r != nil {
		t.Row("REPLAYED AS", r.GetDigest())
	}
	t.Row("REPLAY", proven)
	for _, d := range proof.GetMissingInputs() {
		t.Row("MISSING", d)
	}
	for _, w := range proof.GetWithdrawnInputs() {
		t.Row("NOT TRUSTED", w.GetPredicateType()+" "+w.GetManifestDigest()+", signed by "+w.GetKeyId())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if all := proof.GetVexMismatches(); len(all) > 0 {
		t = s.section("VEX WITHOUT EFFECT", "PACKAGE", "STATUS", "AUTHOR", "OF", "WHY")
		for _, m := range all {
			t.Row(m.GetVulnerability(), m.GetPurl(), m.GetStatus(), m.GetAuthor(), output.Timestamp(m.GetStatementTime()), m.GetWhy())
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	t = s.section("INPUT", "OF PLATFORM", "DIGEST")
	for _, p := range v.GetPlatforms() {
		on := output.ShortDigest(p.GetDigest())
		in := p.GetInputs()
		t.Row("evidence", on, in.GetEvidenceDigest())
		t.Row("advisories", on, in.GetAdvisorySnapshotDigest())
		for _, d := range in.GetPolicyDigests() {
			t.Row("policy", on, d)
		}
		for _, d := range in.GetVexDigests() {
			t.Row("VEX document", on, d)
		}
		for _, a := range in.GetAttestations() {
			t.Row("attestation", on, a.GetManifestDigest())
		}
	}
	return t.Flush()
}
