package command

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/advisorybundle"
	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
)

// passwordVariable holds the password of a key, as it does for cosign.
const passwordVariable = "COSIGN_PASSWORD"

func (s *session) advisoriesExport() *cobra.Command {
	var keyFile string
	cmd := &cobra.Command{
		Use:   "export FILE --key KEY",
		Short: "Write the advisory snapshot in use to a signed bundle",
		Long: `Export writes the advisory snapshot in use to a bundle that is signed with a private
key, for a site without a network. There ` + "`seaworthyctl advisories import FILE`" + ` takes
it if the scanner trusts the key (advisories.trusted_keys).

The key is a file in PEM: an encrypted one of ` + "`cosign generate-key-pair`" + `, whose password
is in $` + passwordVariable + `, or a PKCS #8 key, ECDSA or Ed25519, that is not encrypted.`,
		Example: `  cosign generate-key-pair
  seaworthyctl advisories export advisories.bundle --key cosign.key`,
		Args: cobra.ExactArgs(1),
		RunE: s.run(func(ctx context.Context, args []string) error { return s.runExport(ctx, args[0], keyFile) }),
	}
	cmd.Flags().StringVar(&keyFile, "key", "", "private key `FILE` that signs the bundle")
	_ = cmd.MarkFlagRequired("key")
	return cmd
}

func (s *session) runExport(ctx context.Context, file, keyFile string) error {
	key, err := signingKey(keyFile)
	if err != nil {
		return err
	}
	f, err := s.open()
	if err != nil {
		return err
	}
	client, err := f.Advisories()
	if err != nil {
		return err
	}
	ctx, cancel := s.limit(ctx, 0)
	defer cancel()
	stream, err := client.ExportSnapshot(ctx, &scannerv1.ExportSnapshotRequest{})
	if err != nil {
		return err
	}
	var info *scannerv1.SnapshotInfo
	var content bytes.Buffer
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if info == nil {
			info = m.GetSnapshot()
		}
		content.Write(m.GetChunk())
	}
	statement := advisorybundle.Statement{
		Digest: info.GetDigest(), Size: int64(content.Len()), DataTime: info.GetDataTime().AsTime(),
		CreateTime: s.env.Now().UTC(), AdvisoryCount: info.GetAdvisoryCount(),
	}
	var bundle bytes.Buffer
	if err := advisorybundle.Write(&bundle, statement, content.Bytes(), key); err != nil {
		return err
	}
	if err := os.WriteFile(file, bundle.Bytes(), 0o600); err != nil {
		return err
	}
	if s.json() {
		return output.JSON(s.env.Out, info)
	}
	s.notef("wrote %s, %d KiB", file, bundle.Len()>>10)
	return s.printSnapshot(info)
}

// signingKey reads a private key.
func signingKey(file string) (crypto.Signer, error) {
	text, err := regularfile.ReadFile(file)
	if err != nil {
		return nil, &usageError{err}
	}
	private, err := cryptoutils.UnmarshalPEMToPrivateKey(text, func(bool) ([]byte, error) {
		password, ok := os.LookupEnv(passwordVariable)
		if !ok {
			return nil, fmt.Errorf("the key is encrypted: put its password into $%s", passwordVariable)
		}
		return []byte(password), nil
	})
	if err != nil {
		return nil, usagef("key %s: %w", file, err)
	}
	key, ok := private.(crypto.Signer)
	if !ok {
		return nil, usagef("key %s: %w", file, advisorybundle.ErrKey)
	}
	return key, nil
}

// isBundle tells whether the one argument of an import is a bundle.
func isBundle(paths []string) bool {
	if len(paths) != 1 {
		return false
	}
	f, err := regularfile.Open(paths[0])
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // only read
	return advisorybundle.Is(f)
}

// importBundle sends a bundle.
func (s *session) importBundle(ctx context.Context, client scannerv1.AdvisoryServiceClient, file string, force bool) error {
	f, err := regularfile.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	stream, err := client.ImportBundle(ctx)
	if err != nil {
		return err
	}
	buffer := make([]byte, batchBytes)
	for {
		n, err := f.Read(buffer)
		if n > 0 {
			if err := stream.Send(&scannerv1.ImportBundleRequest{Force: force, Chunk: buffer[:n]}); errors.Is(err, io.EOF) {
				break // the reason comes with the answer
			} else if err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	resp, err := stream.CloseAndRecv()
	if err != nil {
		return err
	}
	if s.json() {
		return output.JSON(s.env.Out, resp)
	}
	return s.printSnapshot(resp.GetSnapshot())
}
