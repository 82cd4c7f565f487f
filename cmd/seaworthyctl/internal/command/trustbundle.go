package command

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
)

func (s *session) trustBundle() *cobra.Command {
	return &cobra.Command{
		Use:   "trust-bundle",
		Short: "Print the public keys that verify what the fleet signs",
		Long: `Trust-bundle prints the public keys that verify the fleet's attestations, the one
in use first. -o pem prints only the keys that are not revoked, for tools that take
a key file; -o trusted-root prints the Sigstore trusted root that belongs to them.`,
		Example: `  seaworthyctl trust-bundle -o pem > seaworthy.pub
  seaworthyctl trust-bundle -o trusted-root > trusted_root.json
  cosign verify-attestation --key seaworthy.pub --trusted-root trusted_root.json \\
    --insecure-ignore-tlog --type vuln IMAGE`,
		Args:        cobra.NoArgs,
		Annotations: map[string]string{outputAnnotation: formatPEM + "," + formatTrustedRoot},
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
			if k.GetRevokeTime() != nil {
				continue
			}
			if _, err := io.WriteString(s.document, k.GetPublicKeyPem()); err != nil {
				return err
			}
		}
		return nil
	case formatTrustedRoot:
		if resp.GetTrustedRootJson() == "" {
			return errors.New("the signer is of an older release and has no trusted root")
		}
		_, err := io.WriteString(s.document, resp.GetTrustedRootJson()+"\n")
		return err
	}
	return s.printKeys(resp.GetKeys())
}

func (s *session) printKeys(keys []*signerv1.TrustedKey) error {
	t := output.NewTable(s.env.Out, "KEY", "ALGORITHM", "TRUSTED FROM", "SIGNED UNTIL", "REVOKED")
	for _, k := range keys {
		t.Row(k.GetKeyId(), k.GetAlgorithm(), output.Timestamp(k.GetStartTime()), output.Timestamp(k.GetEndTime()), output.Timestamp(k.GetRevokeTime()))
	}
	return t.Flush()
}
