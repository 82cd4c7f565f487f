package command

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
)

func (s *session) keys() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "keys",
		Short:   "List, rotate and revoke the keys that the fleet signs with",
		Example: "  seaworthyctl keys list",
	}
	cmd.AddCommand(s.keysList(), s.keysRotate(), s.keysRevoke())
	return cmd
}

func (s *session) keysList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the keys, the one in use first",
		Example: "  seaworthyctl keys list",
		Args:    cobra.NoArgs,
		RunE: s.keyAction(func(ctx context.Context, c signerv1.KeyAdminServiceClient, _ []string) ([]*signerv1.TrustedKey, error) {
			resp, err := c.ListKeys(ctx, &signerv1.ListKeysRequest{})
			return resp.GetKeys(), err
		}),
	}
}

func (s *session) keysRotate() *cobra.Command {
	var requestID string
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Sign with a new key from now on",
		Long: `Rotate makes a new key the one in use. What the old key signed stays valid; whoever
verifies with a copy of the public keys needs the new one (trust-bundle -o pem).`,
		Example: "  seaworthyctl keys rotate",
		Args:    cobra.NoArgs,
		RunE: s.keyAction(func(ctx context.Context, c signerv1.KeyAdminServiceClient, _ []string) ([]*signerv1.TrustedKey, error) {
			if requestID == "" {
				requestID = newUUID()
			}
			resp, err := c.RotateKey(ctx, &signerv1.RotateKeyRequest{RequestId: requestID})
			if err != nil {
				return nil, fmt.Errorf("rotate (to try again without rotating twice: --request-id %s): %w", requestID, err)
			}
			return []*signerv1.TrustedKey{resp.GetKey()}, nil
		}),
	}
	cmd.Flags().StringVar(&requestID, "request-id", "", "UUID of the request; the same one rotates once")
	return cmd
}

func (s *session) keysRevoke() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke KEY-ID",
		Short: "Distrust everything that a key ever signed",
		Long: `Revoke is for a key that leaked: from now on nothing it ever signed is believed. What
it said is signed anew with the key in use when the images are scanned again. The key
in use must be rotated first.`,
		Example: "  seaworthyctl keys revoke 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		Args:    cobra.ExactArgs(1),
		RunE: s.keyAction(func(ctx context.Context, c signerv1.KeyAdminServiceClient, args []string) ([]*signerv1.TrustedKey, error) {
			resp, err := c.RevokeKey(ctx, &signerv1.RevokeKeyRequest{KeyId: args[0]})
			if err != nil {
				return nil, err
			}
			return []*signerv1.TrustedKey{resp.GetKey()}, nil
		}),
	}
}

// keyAction asks the signer and prints the keys that it answers with.
func (s *session) keyAction(ask func(context.Context, signerv1.KeyAdminServiceClient, []string) ([]*signerv1.TrustedKey, error)) func(*cobra.Command, []string) error {
	return s.run(func(ctx context.Context, args []string) error {
		f, err := s.open()
		if err != nil {
			return err
		}
		client, err := f.KeyAdmin()
		if err != nil {
			return err
		}
		ctx, cancel := s.limit(ctx, defaultTimeout)
		defer cancel()
		keys, err := ask(ctx, client, args)
		if err != nil {
			return err
		}
		if s.format == formatJSON {
			return output.JSON(s.env.Out, &signerv1.ListKeysResponse{Keys: keys})
		}
		return s.printKeys(keys)
	})
}

// newUUID is a random UUID, version 4.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
