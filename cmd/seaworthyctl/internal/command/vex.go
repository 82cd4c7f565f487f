package command

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
)

// maxVexFile is the size of a file that is imported, in bytes; the verifier bounds it
// again.
const maxVexFile = 16 << 20

func (s *session) vex() *cobra.Command {
	return group("vex", "Take in what trusted authors say about vulnerabilities, as OpenVEX",
		s.vexImport(), s.vexList(), s.vexDelete())
}

func (s *session) vexImport() *cobra.Command {
	var bundle string
	cmd := &cobra.Command{
		Use:   "import [DOCUMENT] --bundle FILE",
		Short: "Import an OpenVEX document with its signature",
		Long: `Import gives the verifier an OpenVEX document that an author signed whom its
configuration names under vex.authors. Findings that the document says do not affect
an image are left out when the image is judged, and shown in the verdict.

The bundle is what "cosign attest-blob --bundle" wrote about DOCUMENT; without DOCUMENT
it carries the document as the predicate of an attestation.`,
		Example: `  seaworthyctl vex import vendor.openvex.json --bundle vendor.openvex.json.sigstore.json
  seaworthyctl vex import --bundle attestation.sigstore.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 || bundle == "" {
				return usagef("%s takes one DOCUMENT at most, and --bundle", cmd.CommandPath())
			}
			return nil
		},
		RunE: s.run(func(ctx context.Context, args []string) error {
			req := &verifierv1.ImportVexDocumentRequest{}
			var err error
			if req.Bundle, err = readVexFile(bundle); err != nil {
				return err
			}
			if len(args) == 1 {
				if req.Document, err = readVexFile(args[0]); err != nil {
					return err
				}
			}
			return s.runVexImport(ctx, req)
		}),
	}
	cmd.Flags().StringVar(&bundle, "bundle", "", "`FILE` with the Sigstore bundle")
	return cmd
}

func readVexFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxVexFile {
		return nil, fmt.Errorf("%s: %d bytes exceeds the limit of %d", name, info.Size(), maxVexFile)
	}
	return regularfile.ReadFile(name)
}

func (s *session) vexClient() (verifierv1.VexServiceClient, error) {
	f, err := s.open()
	if err != nil {
		return nil, err
	}
	return f.Vex()
}

func (s *session) runVexImport(ctx context.Context, req *verifierv1.ImportVexDocumentRequest) error {
	client, err := s.vexClient()
	if err != nil {
		return err
	}
	ctx, cancel := s.limit(ctx, defaultTimeout)
	defer cancel()
	resp, err := client.ImportVexDocument(ctx, req)
	if err != nil {
		return err
	}
	if s.json() {
		return output.JSON(s.env.Out, resp.GetDocument())
	}
	return s.printVex([]*verifierv1.VexDocument{resp.GetDocument()})
}

func (s *session) vexList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the imported documents",
		Example: `  seaworthyctl vex list -o json`,
		Args:    cobra.NoArgs,
		RunE:    s.run(func(ctx context.Context, _ []string) error { return s.runVexList(ctx) }),
	}
}

func (s *session) runVexList(ctx context.Context) error {
	client, err := s.vexClient()
	if err != nil {
		return err
	}
	ctx, cancel := s.limit(ctx, defaultTimeout)
	defer cancel()
	all := &verifierv1.ListVexDocumentsResponse{}
	req := &verifierv1.ListVexDocumentsRequest{PageSize: pageSize}
	for {
		resp, err := client.ListVexDocuments(ctx, req)
		if err != nil {
			return err
		}
		all.Documents = append(all.Documents, resp.GetDocuments()...)
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if s.json() {
		return output.JSON(s.env.Out, all)
	}
	if len(all.GetDocuments()) == 0 {
		s.notef("no VEX documents were imported")
		return nil
	}
	return s.printVex(all.GetDocuments())
}

func (s *session) printVex(all []*verifierv1.VexDocument) error {
	t := output.NewTable(s.env.Out, "DIGEST", "AUTHOR", "STATEMENTS", "OF", "IMPORTED", "ID")
	for _, d := range all {
		author := d.GetAuthor()
		if !d.GetTrusted() {
			author = "(trusted no more)"
		}
		t.Row(d.GetDigest(), author, strconv.Itoa(int(d.GetStatementCount())), output.Timestamp(d.GetDocumentTime()),
			output.Timestamp(d.GetImportTime()), output.Cut(d.GetDocumentId(), maxMessage))
	}
	return t.Flush()
}

func (s *session) vexDelete() *cobra.Command {
	return &cobra.Command{
		Use:     "delete DIGEST",
		Short:   "Take an imported document away",
		Example: `  seaworthyctl vex delete sha256:…`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || imageref.CheckDigest(args[0]) != nil {
				return usagef("%s takes one DIGEST, as list shows it", cmd.CommandPath())
			}
			return nil
		},
		RunE: s.run(func(ctx context.Context, args []string) error {
			client, err := s.vexClient()
			if err != nil {
				return err
			}
			ctx, cancel := s.limit(ctx, defaultTimeout)
			defer cancel()
			if _, err := client.DeleteVexDocument(ctx, &verifierv1.DeleteVexDocumentRequest{Digest: args[0]}); err != nil {
				return err
			}
			s.notef("deleted; the images are judged again")
			return nil
		}),
	}
}
