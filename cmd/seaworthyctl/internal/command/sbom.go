package command

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
)

var sbomFormats = map[string]scannerv1.SbomFormat{
	"spdx-json":      scannerv1.SbomFormat_SBOM_FORMAT_SPDX_JSON,
	"cyclonedx-json": scannerv1.SbomFormat_SBOM_FORMAT_CYCLONEDX_JSON,
}

func (s *session) sbom() *cobra.Command {
	var format, platform string
	cmd := &cobra.Command{
		Use:   "sbom IMAGE",
		Short: "Print the bill of materials of an image",
		Long: `Sbom prints the bill of materials of one platform of an image, the same bytes
for the same scan. -o changes nothing: the document is JSON. When the exit code
is not 0 the document is not whole.`,
		Example: `  seaworthyctl sbom shop/ledger:1.5.0 --format spdx-json > ledger.spdx.json
  seaworthyctl sbom shop/ledger:1.5.0 --format cyclonedx-json > ledger.cdx.json
  seaworthyctl sbom shop/ledger:1.5.0 --platform linux/arm64`,
		Args: oneImage,
		RunE: s.run(func(ctx context.Context, args []string) error { return s.runSbom(ctx, args[0], format, platform) }),
	}
	cmd.Flags().StringVar(&format, "format", "spdx-json", "format of the document: "+strings.Join(slices.Sorted(maps.Keys(sbomFormats)), " or "))
	cmd.Flags().StringVar(&platform, "platform", "", "platform of an index, as `OS/ARCH[/VARIANT]` (default the first)")
	return cmd
}

func (s *session) runSbom(ctx context.Context, arg, format, platform string) error {
	kind, ok := sbomFormats[format]
	if !ok {
		return usagef("--format %q is none of %s", format, strings.Join(slices.Sorted(maps.Keys(sbomFormats)), ", "))
	}
	p, err := parsePlatform(platform)
	if err != nil {
		return err
	}
	client, img, err := s.askScanner(arg)
	if err != nil {
		return err
	}
	ctx, cancel := s.limit(ctx, defaultTimeout)
	defer cancel()
	stream, err := client.GetSbom(ctx, &scannerv1.GetSbomRequest{Image: img, Format: kind, Platform: p})
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
}

func parsePlatform(s string) (*typev1.Platform, error) {
	if s == "" {
		return nil, nil
	}
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return nil, usagef("--platform %q is not OS/ARCH[/VARIANT]", s)
	}
	p := &typev1.Platform{Os: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}
