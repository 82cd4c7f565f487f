package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/osvfiles"
)

const (
	// A message of an import carries at most so many records and, unless a
	// single one is larger, bytes.
	batchRecords = 500
	batchBytes   = 1 << 20
	// progressEvery is how often an import says how far it is.
	progressEvery = 2 * time.Second
)

func (s *session) advisories() *cobra.Command {
	return group("advisories", "See and replace the advisories that scans are matched with", s.advisoriesExport(), s.advisoriesImport(), s.advisoriesRefresh(), s.advisoriesStatus())
}

func (s *session) advisoriesStatus() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Tell which advisory snapshot is in use and how old it is",
		Example: "  seaworthyctl advisories status",
		Args:    cobra.NoArgs,
		RunE: s.run(func(ctx context.Context, _ []string) error {
			f, err := s.open()
			if err != nil {
				return err
			}
			client, err := f.Advisories()
			if err != nil {
				return err
			}
			ctx, cancel := s.limit(ctx, defaultTimeout)
			defer cancel()
			resp, err := client.GetSnapshot(ctx, &scannerv1.GetSnapshotRequest{})
			if err != nil {
				return err
			}
			if s.json() {
				// Alone, as it was before there were feeds.
				if len(resp.GetFeeds()) == 0 {
					return output.JSON(s.env.Out, resp.GetSnapshot())
				}
				return output.JSON(s.env.Out, resp)
			}
			if err := s.printSnapshot(resp.GetSnapshot()); err != nil {
				return err
			}
			return s.printFeeds(resp.GetFeeds())
		}),
	}
}

func (s *session) printFeeds(feeds []*scannerv1.FeedStatus) error {
	if len(feeds) == 0 {
		return nil
	}
	t := s.section("FEED", "CHECKED", "CHANGED", "PROBLEM")
	for _, f := range feeds {
		t.Row(f.GetName(), output.Timestamp(f.GetCheckTime()), output.Timestamp(f.GetChangeTime()), output.Cut(f.GetError(), 100))
	}
	return t.Flush()
}

func (s *session) advisoriesRefresh() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "refresh",
		Short: "Ask the feeds of the scanner for new advisories now",
		Long: `Refresh asks the feeds that the scanner is configured with (advisories.feeds) and
puts what they have in use if any of them changed. If a feed fails, or has much less
than before, the snapshot in use stays.`,
		Example: "  seaworthyctl advisories refresh",
		Args:    cobra.NoArgs,
		RunE: s.run(func(ctx context.Context, _ []string) error {
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
			resp, err := client.RefreshSnapshot(ctx, &scannerv1.RefreshSnapshotRequest{Force: force})
			if err != nil {
				return err
			}
			if s.json() {
				return output.JSON(s.env.Out, resp)
			}
			if !resp.GetChanged() {
				s.notef("nothing new, the snapshot in use stays")
			}
			if err := s.printSnapshot(resp.GetSnapshot()); err != nil {
				return err
			}
			return s.printFeeds(resp.GetFeeds())
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "accept a snapshot that is much smaller than the one in use, and build one even if no feed changed")
	return cmd
}

func (s *session) printSnapshot(i *scannerv1.SnapshotInfo) error {
	t := output.NewTable(s.env.Out)
	t.Row("SNAPSHOT", i.GetDigest())
	newest := output.Timestamp(i.GetDataTime())
	if i.GetDataTime() != nil {
		newest += fmt.Sprintf(" (%d days ago)", int(s.env.Now().Sub(i.GetDataTime().AsTime()).Hours()/24))
	}
	t.Row("NEWEST", newest)
	t.Row("ADVISORIES", strconv.FormatInt(i.GetAdvisoryCount(), 10))
	t.Row("REJECTED", strconv.FormatInt(i.GetRejectedCount(), 10))
	t.Row("ECOSYSTEMS", ecosystems(i))
	t.Row("EXPLOITED", known(i.GetExploitedKnown(), "CISA's KEV catalogue"))
	t.Row("EPSS", known(i.GetScoresKnown(), "the scores of EPSS"))
	return t.Flush()
}

// ecosystems lists what the snapshot covers, with the number of advisories where it is told.
func ecosystems(i *scannerv1.SnapshotInfo) string {
	if len(i.GetCoverage()) == 0 {
		return strings.Join(i.GetEcosystems(), ", ")
	}
	var out []string
	for _, c := range i.GetCoverage() {
		out = append(out, fmt.Sprintf("%s (%d)", c.GetEcosystem(), c.GetAdvisoryCount()))
	}
	return strings.Join(out, ", ")
}

func known(is bool, source string) string {
	if is {
		return "known"
	}
	return "not known, import " + source
}

func (s *session) advisoriesImport() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "import PATH|URL…",
		Short: "Replace the advisory snapshot by records in the OSV format",
		Long: `Import builds a new advisory snapshot out of all records in the paths and puts it
in place of the one in use. A path is a *.json file with one record, a *.zip
archive with one per entry (such as osv.dev's all.zip), a directory that is
searched for both, or the http or https address of a file; or it is a bundle that
` + "`seaworthyctl advisories export`" + ` wrote, which the scanner takes only if it is signed
by a key that it is configured to trust. CISA's catalogue of known exploited vulnerabilities (JSON) and
the scores of EPSS (*.csv, *.csv.gz) are recognised; what is not given of the two
stays as it is, and so do the records if nothing but these is given. Records that cannot be used are listed and do not stop the
import.`,
		Example: `  seaworthyctl advisories import advisories/
  seaworthyctl advisories import known_exploited_vulnerabilities.json epss_scores-current.csv.gz
  seaworthyctl advisories import Go/all.zip Debian/all.zip CVE-2024-1.json
  seaworthyctl advisories import https://osv-vulnerabilities.storage.googleapis.com/Go/all.zip`,
		Args: cobra.MinimumNArgs(1),
		RunE: s.run(func(ctx context.Context, args []string) error { return s.runImport(ctx, args, force) }),
	}
	cmd.Flags().BoolVar(&force, "force", false, "accept a snapshot that is much smaller than the one in use")
	return cmd
}

func (s *session) runImport(ctx context.Context, paths []string, force bool) error {
	f, err := s.open()
	if err != nil {
		return err
	}
	client, err := f.Advisories()
	if err != nil {
		return err
	}
	ctx, cancel := s.limit(ctx, 0)
	defer cancel() // an import that fails here must not end as a whole one there
	if isBundle(paths) {
		return s.importBundle(ctx, client, paths[0], force)
	}
	stream, err := client.ImportSnapshot(ctx)
	if err != nil {
		return err
	}
	i := &importer{session: s, stream: stream, force: force, start: s.env.Now()}
	i.reported = i.start
	paths, remove, err := s.download(ctx, paths)
	if err != nil {
		return err
	}
	defer remove()
	if err := i.send(paths); err != nil {
		return err
	}
	s.notef("sent %d records (%d MiB), the snapshot is being built", i.records, i.bytes>>20)
	resp, err := stream.CloseAndRecv()
	if err != nil {
		return err
	}
	resp.Rejected = slices.Concat(i.unreadable, resp.GetRejected())
	if s.json() {
		return output.JSON(s.env.Out, resp)
	}
	if err := s.printSnapshot(resp.GetSnapshot()); err != nil || len(resp.GetRejected()) == 0 {
		return err
	}
	t := s.section("REJECTED RECORD", "WHY")
	for _, r := range resp.GetRejected() {
		t.Row(r.GetName(), r.GetMessage())
	}
	return t.Flush()
}

// download fetches what is on web servers into a directory of its own, and returns
// where everything is.
func (s *session) download(ctx context.Context, paths []string) (local []string, remove func(), err error) {
	if !slices.ContainsFunc(paths, osvfiles.IsURL) {
		return paths, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "seaworthyctl-advisories-")
	if err != nil {
		return nil, nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) } // a temporary directory
	for n, p := range paths {
		if osvfiles.IsURL(p) {
			s.notef("downloading %s", p)
			d, err := osvfiles.Download(ctx, http.DefaultClient, p, dir, strconv.Itoa(n), osvfiles.Validators{}, osvfiles.MaxDownload)
			if err != nil {
				remove()
				return nil, nil, err
			}
			p = d.Path
		}
		local = append(local, p)
	}
	return local, remove, nil
}

// importer sends records in messages of a bounded size.
type importer struct {
	*session
	stream grpc.ClientStreamingClient[scannerv1.ImportSnapshotRequest, scannerv1.ImportSnapshotResponse]
	force  bool

	batch      []*scannerv1.AdvisoryRecord
	batchBytes int
	records    int
	bytes      int64
	unreadable []*scannerv1.RejectedRecord
	// scores: a list of scores was sent.
	scores bool

	start, reported time.Time
}

func (i *importer) send(paths []string) error {
	for r, err := range osvfiles.Records(paths) {
		if err != nil {
			return &usageError{err}
		}
		if r.Err != nil {
			i.unreadable = append(i.unreadable, &scannerv1.RejectedRecord{Name: r.Name, Message: r.Err.Error()})
			continue
		}
		if isKEV(r.JSON) || r.CSV != nil {
			if err := i.sendScores(r); err != nil {
				return err
			}
			continue
		}
		if len(i.batch) == batchRecords || len(i.batch) > 0 && i.batchBytes+len(r.JSON) > batchBytes {
			if err := i.flush(); err != nil {
				return err
			}
		}
		i.batch = append(i.batch, &scannerv1.AdvisoryRecord{Name: r.Name, Json: r.JSON})
		i.batchBytes += len(r.JSON)
	}
	if i.records == 0 && len(i.batch) == 0 && !i.scores {
		return usagef("no record could be read in %s", strings.Join(paths, ", "))
	}
	return i.flush()
}

// isKEV recognises CISA's catalogue of known exploited vulnerabilities: no OSV
// record has these members.
func isKEV(content []byte) bool {
	head := content[:min(len(content), 4<<10)]
	// The schema of the catalogue lies beside it and has the same words.
	return bytes.Contains(head, []byte(`"catalogVersion"`)) && !bytes.Contains(head, []byte(`"$schema"`)) && bytes.Contains(content, []byte(`"cveID"`))
}

// sendScores sends a list of scores in pieces.
func (i *importer) sendScores(r osvfiles.Record) error {
	i.scores = true
	for piece := range slices.Chunk(slices.Concat(r.JSON, r.CSV), batchBytes) {
		req := &scannerv1.ImportSnapshotRequest{Force: i.force, KevJson: piece}
		if r.CSV != nil {
			req.KevJson, req.EpssCsv = nil, piece
		}
		if err := i.sendMessage(req); err != nil {
			return err
		}
	}
	return nil
}

func (i *importer) sendMessage(req *scannerv1.ImportSnapshotRequest) error {
	err := i.stream.Send(req)
	if errors.Is(err, io.EOF) {
		_, err = i.stream.CloseAndRecv() // the reason comes with the answer
	}
	return err
}

func (i *importer) flush() error {
	if err := i.sendMessage(&scannerv1.ImportSnapshotRequest{Force: i.force, Records: i.batch}); err != nil {
		return err
	}
	i.records += len(i.batch)
	i.bytes += int64(i.batchBytes)
	i.batch, i.batchBytes = nil, 0
	if now := i.env.Now(); now.Sub(i.reported) >= progressEvery {
		i.reported = now
		i.notef("sent %d records (%d MiB) in %s", i.records, i.bytes>>20, now.Sub(i.start).Round(time.Second))
	}
	return nil
}
