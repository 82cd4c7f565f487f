package command

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
)

const scanTimeout = 10 * time.Minute

func (s *session) scan() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:   "scan IMAGE",
		Short: "Scan an image, as a push of it would",
		Long: `Scan asks the scanner for a new scan of the image. What follows is the same as
after a push: the findings are signed, the policies are evaluated, subscribers
are told. With --wait it follows the scan to its end and fails if the scan does.`,
		Example: `  seaworthyctl scan shop/ledger:1.5.0 --wait
  seaworthyctl scan registry.example/team/app@sha256:… -o json`,
		Args: oneImage,
		RunE: s.run(func(ctx context.Context, args []string) error { return s.runScan(ctx, args[0], wait) }),
	}
	cmd.Flags().BoolVarP(&wait, "wait", "w", false, "wait until the scan has ended")
	return cmd
}

func (s *session) runScan(ctx context.Context, arg string, wait bool) error {
	f, err := s.open()
	if err != nil {
		return err
	}
	ref, err := image(f, arg)
	if err != nil {
		return err
	}
	client, err := f.Scanner()
	if err != nil {
		return err
	}
	timeout := defaultTimeout
	if wait {
		timeout = scanTimeout
	}
	ctx, cancel := s.limit(ctx, timeout)
	defer cancel()
	resp, err := client.ScanImage(ctx, &scannerv1.ScanImageRequest{Image: toMessage(ref), RequestId: uuid.NewString()})
	if err != nil {
		return err
	}
	scan := resp.GetScan()
	if wait {
		if scan, err = s.followScan(ctx, client, scan); err != nil {
			return err
		}
	}
	if err := s.printScan(scan); err != nil {
		return err
	}
	if scan.GetState() == scannerv1.Scan_STATE_FAILED {
		return scanFailure(scan)
	}
	return nil
}

// followScan reports each state until the scan has ended. It survives a restart
// of the scanner.
func (s *session) followScan(ctx context.Context, client scannerv1.ScannerServiceClient, scan *scannerv1.Scan) (*scannerv1.Scan, error) {
	last := scannerv1.Scan_STATE_UNSPECIFIED
	for {
		watch, err := client.WatchScan(ctx, &scannerv1.WatchScanRequest{ScanId: scan.GetScanId()})
		for err == nil {
			var resp *scannerv1.WatchScanResponse
			if resp, err = watch.Recv(); err != nil {
				break
			}
			scan = resp.GetScan()
			if scan.GetState() != last {
				last = scan.GetState()
				s.notef("%s %s", s.env.Now().UTC().Format(time.TimeOnly), strings.ToLower(output.Enum(last, "STATE_")))
			}
		}
		if ended(scan) {
			return scan, nil
		}
		if !errors.Is(err, io.EOF) && apierr.From(err).Code() != codes.Unavailable {
			return nil, err
		}
		if err := pause(ctx, time.Second); err != nil {
			return nil, err
		}
	}
}

func ended(scan *scannerv1.Scan) bool {
	return scan.GetState() == scannerv1.Scan_STATE_SUCCEEDED || scan.GetState() == scannerv1.Scan_STATE_FAILED
}

// pause waits for d or the end of ctx, whose error it returns.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func scanFailure(scan *scannerv1.Scan) error {
	code := codes.FailedPrecondition
	if scan.GetErrorReason() == "IMAGE_NOT_FOUND" {
		code = codes.NotFound
	}
	return apierr.Newf(code, scan.GetErrorReason(), "the scan failed: %s", scan.GetErrorMessage())
}

func (s *session) printScan(scan *scannerv1.Scan) error {
	if s.json() {
		return output.JSON(s.env.Out, scan)
	}
	t := output.NewTable(s.env.Out)
	t.Row("IMAGE", imageName(scan.GetImage()))
	t.Row("DIGEST", scan.GetImage().GetDigest())
	t.Row("SCAN", scan.GetScanId())
	t.Row("STATE", output.Enum(scan.GetState(), "STATE_"))
	t.Row("TRACE", scan.GetTraceId())
	if err := t.Flush(); err != nil || len(scan.GetReports()) == 0 {
		return err
	}
	t = s.section("PLATFORM", "DIGEST", "PACKAGES", "FINDINGS", "COMPLETE")
	for _, r := range scan.GetReports() {
		complete := "yes"
		if r.GetIncomplete() {
			complete = "no: " + strings.Join(r.GetProblems(), "; ")
		}
		t.Row(platformName(r.GetPlatform()), output.ShortDigest(r.GetImageDigest()),
			strconv.Itoa(int(r.GetPackageCount())), strconv.Itoa(int(r.GetFindingCount())), complete)
	}
	return t.Flush()
}
