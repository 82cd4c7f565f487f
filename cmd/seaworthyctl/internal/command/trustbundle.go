package command

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthyctl/internal/output"
	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
)

func (s *session) trustBundle() *cobra.Command {
	return &cobra.Command{
		Use:   "trust-bundle",
		Short: "Print the public keys that verify what the fleet signs",
		Long: `Trust-bundle prints the public keys that verify the fleet's attestations, the one
in use first. -o pem prints only the keys, for tools that take a key file.`,
		Example: `  seaworthyctl trust-bundle -o pem > seaworthy.pub
  cosign verify-attestation --key seaworthy.pub --type vuln IMAGE`,
		Args:        cobra.NoArgs,
		Annotations: map[string]string{outputAnnotation: formatPEM},
		RunE: s.run(func(ctx context.Context, _ []string) error {
			f, err := s.open()
			if err != nil {
				return err
			}
			client, err := f.Attestations()
			if err != nil {
				return err
			}
			ctx, cancel := s.limit(ctx, defaultTimeout)
			defer cancel()
			resp, err := client.GetTrustBundle(ctx, &signerv1.GetTrustBundleRequest{})
			if err != nil {
				return err
			}
			return s.printTrustBundle(resp)
		}),
	}
}

func (s *session) printTrustBundle(resp *signerv1.GetTrustBundleResponse) error {
	switch s.format {
	case formatJSON:
		return output.JSON(s.env.Out, resp)
	case formatPEM:
		for _, k := range resp.GetKeys() {
			if _, err := io.WriteString(s.env.Out, k.GetPublicKeyPem()); err != nil {
				return err
			}
		}
		return nil
	}
	t := output.NewTable(s.env.Out, "KEY", "TRUSTED FROM", "TRUSTED UNTIL")
	for _, k := range resp.GetKeys() {
		t.Row(k.GetKeyId(), output.Timestamp(k.GetStartTime()), output.Timestamp(k.GetEndTime()))
	}
	return t.Flush()
}
