package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
)

func (s *session) policy() *cobra.Command {
	return group("policy", "Write, test and apply the policies that images are judged by",
		s.policyInit(), s.policyLint(), s.policyTest(), s.policyRecord(),
		s.policyApply(), s.policyDiff(), s.policyList(), s.policyShow(), s.policyHistory(), s.policyDelete())
}

// oneName demands the name of a policy.
func oneName(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("%s takes the NAME of one policy", cmd.CommandPath())
	}
	return nil
}

// policies connects to the policies of the verifier.
func (s *session) policies() (verifierv1.PolicyServiceClient, error) {
	f, err := s.open()
	if err != nil {
		return nil, err
	}
	return f.Policies()
}

func (s *session) policyList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the policies in force",
		Example: "  seaworthyctl policy list -o json",
		Args:    cobra.NoArgs,
		RunE: s.run(func(ctx context.Context, _ []string) error {
			client, err := s.policies()
			if err != nil {
				return err
			}
			ctx, cancel := s.limit(ctx, defaultTimeout)
			defer cancel()
			all := &verifierv1.ListPoliciesResponse{}
			req := &verifierv1.ListPoliciesRequest{PageSize: pageSize}
			for {
				resp, err := client.ListPolicies(ctx, req)
				if err != nil {
					return err
				}
				all.Policies = append(all.Policies, resp.GetPolicies()...)
				if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
					break
				}
			}
			if s.json() {
				return output.JSON(s.env.Out, all)
			}
			if len(all.GetPolicies()) == 0 {
				s.notef("no policies: every verdict is UNKNOWN")
				return nil
			}
			return s.printPolicies(all.GetPolicies())
		}),
	}
}

func (s *session) printPolicies(all []*verifierv1.Policy) error {
	t := output.NewTable(s.env.Out, "NAME", "VERSION", "SINCE", "FROM", "BY", "DIGEST")
	for _, p := range all {
		from, digest := "API", output.ShortDigest(p.GetDigest())
		if p.GetFromFile() {
			from = "file"
		}
		if p.GetDeleted() {
			digest = "deleted"
		}
		t.Row(p.GetName(), "v"+strconv.FormatInt(p.GetVersion(), 10), output.Timestamp(p.GetUpdateTime()), from, p.GetActor(), digest)
	}
	return t.Flush()
}

func (s *session) policyShow() *cobra.Command {
	var version int64
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Print the document of a policy",
		Example: "  seaworthyctl policy show team-a --version 2",
		Args:    oneName,
		RunE: s.run(func(ctx context.Context, args []string) error {
			client, err := s.policies()
			if err != nil {
				return err
			}
			ctx, cancel := s.limit(ctx, defaultTimeout)
			defer cancel()
			resp, err := client.GetPolicy(ctx, &verifierv1.GetPolicyRequest{Name: args[0], Version: version})
			if err != nil {
				return err
			}
			if s.json() {
				return output.JSON(s.env.Out, resp.GetPolicy())
			}
			if _, err = fmt.Fprint(s.document, resp.GetPolicy().GetDocument()); err != nil || version != 0 {
				return err
			}
			r, err := getRollout(ctx, client, args[0])
			if err != nil {
				return err
			}
			s.noteRollout(r)
			return nil
		}),
	}
	cmd.Flags().Int64Var(&version, "version", 0, "`NUMBER` of the version (default the one in force)")
	return cmd
}

func (s *session) policyHistory() *cobra.Command {
	return &cobra.Command{
		Use:     "history NAME",
		Short:   "List the versions of a policy, latest first",
		Example: "  seaworthyctl policy history team-a",
		Args:    oneName,
		RunE: s.run(func(ctx context.Context, args []string) error {
			client, err := s.policies()
			if err != nil {
				return err
			}
			ctx, cancel := s.limit(ctx, defaultTimeout)
			defer cancel()
			all := &verifierv1.ListPolicyVersionsResponse{}
			req := &verifierv1.ListPolicyVersionsRequest{Name: args[0], PageSize: pageSize}
			for {
				resp, err := client.ListPolicyVersions(ctx, req)
				if err != nil {
					return err
				}
				all.Versions = append(all.Versions, resp.GetVersions()...)
				if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
					break
				}
			}
			if s.json() {
				return output.JSON(s.env.Out, all)
			}
			return s.printPolicies(all.GetVersions())
		}),
	}
}

func (s *session) policyRecord() *cobra.Command {
	return &cobra.Command{
		Use:   "record IMAGE",
		Short: "Print the recorded evidence of an image, for unit tests of policies",
		Long: `Record prints the evidence that the newest verdict of an image was made from, as
JSON, for a case of a test file. It may name packages, variables and labels of the
image. When the exit code is not 0 the document is not whole.`,
		Example: "  seaworthyctl policy record shop/ledger:1.5.0 > ledger.json",
		Args:    oneImage,
		RunE: s.run(func(ctx context.Context, args []string) error {
			client, err := s.policies()
			if err != nil {
				return err
			}
			img, err := imageMessage(s.fleet, args[0])
			if err != nil {
				return err
			}
			ctx, cancel := s.limit(ctx, defaultTimeout)
			defer cancel()
			stream, err := client.ExportEvidence(ctx, &verifierv1.ExportEvidenceRequest{Image: img})
			if err != nil {
				return err
			}
			for {
				resp, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
				if _, err := s.document.Write(resp.GetChunk()); err != nil {
					return err
				}
			}
		}),
	}
}
