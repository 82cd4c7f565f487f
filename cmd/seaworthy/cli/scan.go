package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	scanner "github.com/seaworthy-dev/seaworthy/services/scanner/app"
)

// Outcomes of a scan that are not errors of it.
var (
	errFailOn     = errors.New("the image matches --fail-on")
	errIncomplete = errors.New("not everything of the image could be judged")
)

// scanError is a scan that could not be made.
type scanError struct{ err error }

func (e *scanError) Error() string { return e.err.Error() }
func (e *scanError) Unwrap() error { return e.err }

// scanFormat is one of the documents that scan writes.
type scanFormat struct {
	name string
	// findings: the document is of no use without advisories.
	findings bool
	write    func(*scanner.ScanOnceResult) ([]byte, error)
}

var scanFormats = []scanFormat{
	{"table", true, scanTable},
	{"json", true, (*scanner.ScanOnceResult).JSON},
	{"spdx-json", false, (*scanner.ScanOnceResult).SPDX},
	{"cyclonedx-json", false, (*scanner.ScanOnceResult).CycloneDX},
	{"sarif", true, (*scanner.ScanOnceResult).SARIF},
	{"cosign-vuln", true, (*scanner.ScanOnceResult).CosignVuln},
}

type scanFlags struct {
	advisories                               []string
	output, outputFile, platform, conditions string
	plainHTTP, quiet                         bool
}

func newScan(out, logs io.Writer) *cobra.Command {
	var flags scanFlags
	names := make([]string, 0, len(scanFormats))
	for _, f := range scanFormats {
		names = append(names, f.name)
	}
	c := &cobra.Command{
		Use:   "scan IMAGE|oci:DIR[:TAG]|tar:FILE|docker-archive:FILE|sbom:FILE",
		Short: "Scan one image, without a server",
		Long: `Scan makes the same report of an image that the fleet makes, by itself: it needs no
server, no database and no event bus, keeps nothing, and unpacks nothing to disk.

The image is in a registry (with the credentials of docker's configuration; loopback
registries are asked over plain HTTP), in a directory or archive in the OCI image
layout, in an archive made by docker save, or it is a bill of materials in SPDX 2.3 or
CycloneDX 1.6. Of an image for several platforms the one of --platform is scanned.

--advisories names OSV records: *.json files, *.zip archives such as osv.dev's all.zip,
directories of these, CISA's KEV catalogue and the scores of EPSS; or one snapshot file
that advisories build wrote, which costs no time to open. The formats spdx-json and
cyclonedx-json need none.

--fail-on takes conditions separated by commas; one that any finding meets is enough:
a severity (this one and those above), kev (known to be exploited), or either of them
with the prefix fixable: (a fixed version is known).

Exit codes: 0 success, 1 a condition of --fail-on is met, 2 the scan could not be made,
3 no condition of --fail-on is met but something of the image could not be judged.`,
		Example: `  seaworthy scan --advisories ./osv registry.example/shop/ledger:1.4.0
  seaworthy scan --advisories ./osv --fail-on fixable:critical,kev oci:./build/image
  seaworthy scan -o cyclonedx-json --output-file ledger.cdx.json docker-archive:ledger.tar
  seaworthy scan --advisories ./osv -o sarif sbom:ledger.cdx.json`,
		Args: func(c *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(1)(c, args); err != nil {
				return &usageError{err}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return flags.run(c.Context(), args[0], out, logs) },
	}
	c.Flags().StringArrayVar(&flags.advisories, "advisories", nil, "OSV records: a file, an archive, a directory or a snapshot; may be repeated")
	c.Flags().StringVarP(&flags.output, "output", "o", "table", "what is written: "+strings.Join(names, ", "))
	c.Flags().StringVar(&flags.outputFile, "output-file", "", "write to a file instead of to the standard output")
	c.Flags().StringVar(&flags.platform, "platform", "", "platform of an index, as `OS/ARCH[/VARIANT]` (default linux on this machine's architecture)")
	c.Flags().StringVar(&flags.conditions, "fail-on", "", "exit with 1 if a finding meets one of these `CONDITIONS`")
	c.Flags().BoolVar(&flags.plainHTTP, "plain-http", false, "ask the registry without TLS")
	c.Flags().BoolVarP(&flags.quiet, "quiet", "q", false, "do not show progress")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// scanMemory is from where on memory is collected more often, in bytes. Most of what a
// scan holds is one file at a time, so that costs little; it is no limit on what an
// image may need.
const scanMemory = 64 << 20

func (f *scanFlags) run(ctx context.Context, target string, out, logs io.Writer) error {
	format, gate, platform, err := f.parse()
	if err != nil {
		return &usageError{err}
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(scanMemory)
	}
	dropStartup()
	progress := &scanner.ScanProgress{}
	stop := showProgress(logs, progress, f.quiet)
	res, err := scanner.ScanOnce(ctx, scanner.ScanOnceOptions{
		Target: target, Platform: platform, Advisories: f.advisories, PlainHTTP: f.plainHTTP, Progress: progress, Now: time.Now,
	})
	stop()
	if err != nil {
		return &scanError{err}
	}
	for _, r := range res.Rejected {
		_, _ = fmt.Fprintln(output.Plain(logs), "advisory refused:", r)
	}
	document, err := format.write(res)
	if err != nil {
		return &scanError{err}
	}
	if format.name == "table" {
		out = output.Plain(out)
	} else {
		document = append(document, '\n')
	}
	if err := f.save(document, out); err != nil {
		return &scanError{err}
	}
	return gate.judge(res.Report)
}

func (f *scanFlags) save(document []byte, out io.Writer) error {
	if f.outputFile != "" {
		return os.WriteFile(f.outputFile, document, 0o644) //nolint:gosec // a report is for others to read
	}
	_, err := output.Document(out).Write(document)
	return err
}

func (f *scanFlags) parse() (scanFormat, gate, *typev1.Platform, error) {
	platform, err := parsePlatform(f.platform)
	if err != nil {
		return scanFormat{}, nil, nil, err
	}
	g, err := parseGate(f.conditions)
	if err != nil {
		return scanFormat{}, nil, nil, err
	}
	for _, format := range scanFormats {
		if format.name != f.output {
			continue
		}
		if len(f.advisories) == 0 && (format.findings || g != nil) {
			return scanFormat{}, nil, nil, errors.New("nothing can be found without --advisories; only -o spdx-json and cyclonedx-json need none")
		}
		return format, g, platform, nil
	}
	return scanFormat{}, nil, nil, fmt.Errorf("--output %q is not known, see --help", f.output)
}

func parsePlatform(s string) (*typev1.Platform, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // no platform was asked for
	}
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return nil, fmt.Errorf("--platform %q is not OS/ARCH[/VARIANT]", s)
	}
	p := &typev1.Platform{Os: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}
