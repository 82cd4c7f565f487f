package server

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/feeds"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/snapshots"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/wire"
)

// Snapshots keeps the snapshot in use.
type Snapshots interface {
	Current() core.Matcher
	NewBuilder() *advisory.Builder
	Import(ctx context.Context, b *advisory.Builder, force bool) (core.SnapshotInfo, error)
	Snapshot() *advisory.Snapshot
	ImportFile(ctx context.Context, content []byte, digest string, force bool) (core.SnapshotInfo, error)
}

// advisories implements scanner.v1.AdvisoryService.
type advisories struct {
	scannerv1.UnimplementedAdvisoryServiceServer
	Deps
}

// Feeds asks the feeds.
type Feeds interface {
	Refresh(ctx context.Context, force bool) (feeds.Result, error)
}

// GetSnapshot implements the RPC.
func (a *advisories) GetSnapshot(ctx context.Context, _ *scannerv1.GetSnapshotRequest) (*scannerv1.GetSnapshotResponse, error) {
	m := a.Snapshots.Current()
	if m == nil {
		return nil, apierr.New(codes.NotFound, core.ReasonNoSnapshot, "no advisories are in use: import some (seaworthyctl advisories import)")
	}
	states, err := a.Store.Feeds(ctx)
	if err != nil {
		return nil, err
	}
	return &scannerv1.GetSnapshotResponse{Snapshot: wire.SnapshotWithCoverage(m.Info()), Feeds: feedStates(states)}, nil
}

func feedStates(states []store.Feed) []*scannerv1.FeedStatus {
	var out []*scannerv1.FeedStatus
	for _, f := range states {
		out = append(out, &scannerv1.FeedStatus{
			Name: f.Name, CheckTime: wire.Time(f.CheckTime), ChangeTime: wire.Time(f.ChangeTime), TryTime: wire.Time(f.TryTime), Error: f.Error,
		})
	}
	return out
}

// RefreshSnapshot implements the RPC.
func (a *advisories) RefreshSnapshot(ctx context.Context, req *scannerv1.RefreshSnapshotRequest) (*scannerv1.RefreshSnapshotResponse, error) {
	res, err := a.Feeds.Refresh(ctx, req.GetForce())
	if failed, ok := errors.AsType[*feeds.Error](err); ok {
		return nil, apierr.New(codes.Unavailable, "FEED_FAILED", failed.Error()).WithCause(err)
	}
	if errors.Is(err, feeds.ErrNoFeeds) {
		return nil, apierr.New(codes.FailedPrecondition, "NO_FEEDS", err.Error())
	}
	if err != nil {
		return nil, importError(err)
	}
	return &scannerv1.RefreshSnapshotResponse{Snapshot: wire.SnapshotWithCoverage(res.Snapshot), Changed: res.Changed, Feeds: feedStates(res.Feeds)}, nil
}

// ImportSnapshot implements the RPC.
func (a *advisories) ImportSnapshot(stream grpc.ClientStreamingServer[scannerv1.ImportSnapshotRequest, scannerv1.ImportSnapshotResponse]) error {
	b := a.Snapshots.NewBuilder()
	force := false
	var kev, epss []byte
	for first := true; ; first = false {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if first {
			force = req.GetForce()
		}
		kev, epss = append(kev, req.GetKevJson()...), append(epss, req.GetEpssCsv()...)
		if len(kev) > advisory.MaxScores || len(epss) > advisory.MaxScores {
			return apierr.Newf(codes.ResourceExhausted, "SCORES_TOO_LARGE", "a list of scores is larger than %d bytes", advisory.MaxScores)
		}
		for _, r := range req.GetRecords() {
			if len(r.GetJson()) > advisory.MaxRecord {
				return apierr.Newf(codes.ResourceExhausted, "ADVISORY_TOO_LARGE", "%.200s is larger than %d bytes", r.GetName(), advisory.MaxRecord)
			}
			if err := b.Add(r.GetName(), r.GetJson()); err != nil {
				return apierr.New(codes.ResourceExhausted, "TOO_MANY_ADVISORIES", err.Error())
			}
		}
	}
	if err := setScores(b, kev, epss); err != nil {
		return err
	}
	ctx := stream.Context()
	info, err := a.Snapshots.Import(ctx, b, force)
	if err != nil {
		return importError(err)
	}
	id, e := wire.Updated(info, a.Now())
	if err := a.Publisher.PublishAdvisories(ctx, id, e); err != nil {
		// The snapshot is in use; importing it again publishes again.
		return busError(err)
	}
	out := &scannerv1.ImportSnapshotResponse{Snapshot: wire.SnapshotWithCoverage(info)}
	for _, r := range b.Rejected() {
		out.Rejected = append(out.Rejected, &scannerv1.RejectedRecord{Name: r.Name, Message: r.Message})
	}
	return stream.SendAndClose(out)
}

func setScores(b *advisory.Builder, kev, epss []byte) error {
	if len(kev) > 0 {
		if err := b.SetKEV(kev); err != nil {
			return apierr.New(codes.InvalidArgument, "MALFORMED_KEV", err.Error())
		}
	}
	if len(epss) > 0 {
		if err := b.SetEPSS(epss); err != nil {
			return apierr.New(codes.InvalidArgument, "MALFORMED_EPSS", err.Error())
		}
	}
	return nil
}

func importError(err error) error {
	var small *snapshots.TooSmallError
	var older *snapshots.OlderError
	var fewer *advisory.FewerScoresError
	var olderScores *snapshots.OlderScoresError
	switch {
	case errors.As(err, &fewer):
		return apierr.New(codes.FailedPrecondition, "SCORES_TOO_FEW", fewer.Error())
	case errors.As(err, &olderScores):
		return apierr.New(codes.FailedPrecondition, "SCORES_OLDER", olderScores.Error())
	case errors.As(err, &older):
		return apierr.New(codes.FailedPrecondition, "SNAPSHOT_OLDER", older.Error())
	case errors.As(err, &small):
		return apierr.New(codes.FailedPrecondition, "SNAPSHOT_TOO_SMALL", small.Error())
	case errors.Is(err, advisory.ErrEmpty):
		return apierr.New(codes.InvalidArgument, "NO_ADVISORIES", "no record could be used")
	}
	return busError(err)
}
